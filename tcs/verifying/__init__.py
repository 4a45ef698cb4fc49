"""`tcs verify`: any file or folder that tcs wrote, read by the readers that every command uses, and looked through to its last value."""
