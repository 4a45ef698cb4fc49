"""Named methods, and what `tcs methods` prints of them."""
