"""The public functions of the stages, as `tcs` offers them. Written by scripts/make_stages.py; not to be edited."""
