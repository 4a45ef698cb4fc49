"""`tcs extract`: images + teacher -> store."""
