"""`tcs cache verify`."""

import contextlib
import json
import os
import sys
from typing import Any

import click

from tcs.config.extract import RecomputeConfig
from tcs.errors import ConfigError

RECORDED = "as recorded"


@click.command(name="verify")
@click.argument("store", type=click.Path())
@click.option("--against", metavar="DATA", help="Compare with the images of this data set as well.")
@click.option(
    "--teacher",
    is_flag=False,
    flag_value=RECORDED,
    metavar="[NAME]",
    help="Compute a sample of rows again, and compare. NAME is asked for where the recorded teacher is Python code.",
)
@click.option("--sample", type=int, default=64, help="Rows to compute again.")
@click.option("--seed", type=int, default=42, help="Of the sample.")
@click.option("--tolerance", type=float, default=0.01, help="Largest relative error of a row computed again.")
@click.option("--data", type=click.Path(), help="Where the images are now.  [default: as recorded in STORE]")
@click.option("--teacher-checkpoint", type=click.Path(), help="Where the weights are now.  [default: as recorded]")
@click.option("--device", help="cpu, cuda, cuda:1 ...  [default: as recorded]")
@click.option("-j", "--workers", type=int, help="Decoding processes.  [default: as recorded]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(against: str | None, teacher: str | None, tolerance: float, as_json: bool, **options: Any) -> int:
    """Check every byte of STORE, and list all that is wrong with it.

    Exit code 0: the store is whole and sound, and agrees with what it was compared with. 1: it is not, or shards are
    still to be written. --against names images that have changed, are missing or are new since; --teacher computes a
    sample of rows again, on the same CPU with the same versions with no difference at all.
    """
    config = RecomputeConfig(**options, teacher=None if teacher == RECORDED else teacher)
    if not tolerance >= 0:
        raise ConfigError(f"--tolerance is {tolerance}; it must be 0 or more.")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as in tcs extract
    from tcs.maintenance.verify import result_lines, verified

    found = verified(config.store)
    told, result, is_good = result_lines(found), found.to_json(), found.is_sound
    if is_good and against is not None:
        import cache
        from tcs.maintenance.verify import measure_drift

        drift = measure_drift(cache.open(config.store), against)
        told, result["against"], is_good = [*told, *drift.describe()], drift.to_json(), drift.is_none
    if found.is_sound and teacher is not None:
        from tcs.maintenance.recompute import recompute

        with contextlib.redirect_stdout(sys.stderr):  # stdout is for results, and a teacher of the user's own may print
            errors = recompute(config)
        told += [error.describe(name) for name, error in errors.items()]
        result["recomputed"] = {name: vars(error) for name, error in errors.items()}
        is_good = is_good and all(error.max_rel <= tolerance for error in errors.values())
    click.echo(json.dumps(result) if as_json else "\n".join(told))
    return 0 if is_good else 1
