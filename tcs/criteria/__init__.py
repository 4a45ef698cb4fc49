"""Losses with the parts they own: a module a loss, from the rows of a step to a number. The table is in `tcs.criteria.losses`."""
