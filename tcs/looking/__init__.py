"""`tcs look`: what a store looks like to its teacher, and what coordinates and hash bits keep of that."""
