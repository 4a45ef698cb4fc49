"""`tcs audit`: what is wrong with the data of a store."""
