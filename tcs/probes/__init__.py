"""Closed-form and convex heads on frozen rows, and the agreement of two sets of rows."""
