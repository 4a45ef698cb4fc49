"""`tcs cache info/verify/repair`: an existing store against its data and its teacher."""
