"""`python -m tcs`, which is how torchrun starts it: `torchrun --nproc-per-node 2 -m tcs extract ...`."""

from tcs.cli import main

if __name__ == "__main__":
    main()
