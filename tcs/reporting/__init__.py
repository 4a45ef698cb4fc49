"""Typed rows of results -> Markdown, CSV, figures; trains and reads nothing else."""
