"""The exponential in V_kD's projector, as it is done and as it was done before: processor time of a weight and its gradient, in turns.

    python -m benchmarks.skew_exponential

Three minutes, most of it in the widest case. Before, phi of 2 S x 2 S was a block of an exponential of 4 S x 4 S, where 4 S < T, and else
the exponential of T x T was taken whole, by torch.linalg.matrix_exp. One thread, float64. Writes results/skew-exponential/.

Legend: T teacher dims, S student dims.
"""

import argparse
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from benchmarks.turns import Table, report, seconds_in_turns
from tcs.functional import expm0

WIDTHS = ((64, 512), (128, 512), (192, 512), (512, 768), (64, 1280), (128, 1280), (192, 1280), (1280, 1280))  # S, T
BEFORE, NOW = "before", "now"
SIZE = 0.03  # standard deviation of the raw parameter's values, as after some hundred steps


def before(raw_TS: Tensor) -> Tensor:
    """`expm0` as it was."""
    width_t, width_s = raw_TS.shape
    lower_TS = raw_TS.tril(-1)
    if 4 * width_s >= width_t:
        lower_TT = F.pad(lower_TS, (0, width_t - width_s))
        exponential_TT: Tensor = torch.linalg.matrix_exp(lower_TT - lower_TT.T)
        return exponential_TT[:, :width_s]
    first_TS = torch.eye(width_t, width_s, dtype=raw_TS.dtype)
    balance = (torch.linalg.matrix_norm(lower_TS.detach()) / width_s**0.5).sqrt()
    left = torch.cat([lower_TS / balance, -first_TS * balance], dim=1)
    right = torch.cat([first_TS * balance, lower_TS / balance], dim=1)
    small = right.T @ left
    rows = 2 * width_s
    top = torch.cat([small, torch.eye(rows, dtype=raw_TS.dtype)], dim=1)
    phi = torch.linalg.matrix_exp(F.pad(top, (0, 0, 0, rows)))[:rows, rows:]
    moved_TS: Tensor = left @ (phi @ (right.T @ first_TS))
    return first_TS + moved_TS


def compared(width_s: int, width_t: int, rounds: int) -> Table:
    """Milliseconds of a weight and its gradient."""
    raw = torch.randn(width_t, width_s, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * SIZE
    raw.requires_grad_()

    def step(form: Callable[[Tensor], Tensor]) -> Tensor:
        raw.grad = None
        weight = form(raw)
        torch.autograd.backward(weight.square().sum(0).cos().sum())
        return weight.detach()

    gap = float((step(before) - step(expm0)).abs().max())
    assert gap < 1e-11, gap
    seconds = seconds_in_turns({BEFORE: lambda: step(before), NOW: lambda: step(expm0)}, rounds, time.process_time)
    values = {name: [1e3 * value for value in found] for name, found in seconds.items()}
    return Table(title=f"student of {width_s}, teacher of {width_t}", unit="ms", base=BEFORE, values=values)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    tables = [compared(width_s, width_t, options.rounds) for width_s, width_t in WIDTHS]
    report("skew-exponential", tables, "benchmarks.skew_exponential", arguments)


if __name__ == "__main__":
    main()
