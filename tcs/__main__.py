"""`python -m tcs`, which is how torchrun starts it: `torchrun --nproc-per-node 2 -m tcs extract ...`."""

import sys

import tcs

if (
    tcs.__file__ is None
):  # the working folder has a folder tcs/, and an editable install by a finder lets Python merge the two
    sys.exit(
        f"Error: {next(iter(tcs.__path__))} hides the package tcs; rename it, or start the command tcs in place of python -m tcs."
    )

from tcs.cli import main

if __name__ == "__main__":
    main()
