"""Which rows carry a label, which may be seen without one, which are kept out."""
