"""`tcs fit` and `tcs targets`: coordinate systems, selection, targets files."""
