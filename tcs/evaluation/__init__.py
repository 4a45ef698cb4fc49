"""`tcs eval` and `tcs probe`."""
