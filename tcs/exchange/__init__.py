"""`tcs cache import` and `export`: features that somebody holds already, and back."""
