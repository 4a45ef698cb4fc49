"""What the files that tcs writes hold, as types: one checked reader for all, and the source of docs/reference/formats.md.

Fields that a type does not name are left alone: a later release may have written them.
"""
