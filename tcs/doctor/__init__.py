"""`tcs doctor`: whether this machine and this environment can run the toolkit, and what to do where they cannot."""
