"""`tcs cache update`."""

import contextlib
import json
import os
import sys
from typing import Any

import click

from tcs.config.update import UpdateConfig


@click.command(name="update")
@click.argument("store", type=click.Path())
@click.argument("data", required=False)
@click.option("--out", type=click.Path(), help="Folder of the new store.  [default: in place of STORE]")
@click.option("--keep-gone", is_flag=True, help="Keep rows whose images DATA has no more.")
@click.option("--keep-labels", is_flag=True, help="Keep the labels that STORE has, and read no label file.")
@click.option("--split", help="Part of DATA to use.  [default: as recorded in STORE]")
@click.option("--data-dir", type=click.Path(), help="Where a table's paths start.  [default: as recorded]")
@click.option("--class-map", type=click.Path(), help="Text file: one class name a line.  [default: as recorded]")
@click.option(
    "--label-file", type=click.Path(), metavar="FILE", help="Labels, which STORE follows.  [default: as recorded]"
)
@click.option(
    "--unlabelled-data",
    multiple=True,
    type=click.Path(),
    metavar="DIR",
    help="More images without labels.  [default: as recorded]  Repeatable.",
)
@click.option("--teacher", help="The recorded teacher, named by you: asked for where it is Python code.")
@click.option("--teacher-checkpoint", type=click.Path(), help="Where the weights are now.  [default: as recorded]")
@click.option("--device", help="cpu, cuda, cuda:1 ...  [default: as recorded]")
@click.option("-j", "--workers", type=int, help="Decoding processes.  [default: as recorded]")
@click.option("--max-bad", type=int, help="Bad images that are left out without failing.  [default: as recorded]")
@click.option("--dry-run", is_flag=True, help="Tell what has changed and what it costs, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(as_json: bool, unlabelled_data: tuple[str, ...], **options: Any) -> None:
    """Make STORE follow DATA, which has grown or changed: what is new or changed goes through the recorded teacher, all else is kept.

    DATA is by default the recorded data set. The result is the store that tcs extract would make of DATA now. It takes the place of
    STORE when it is whole, and what STORE was before is kept as STORE.old; --out leaves STORE alone. Run the same command again
    where it was cut short; where nothing has changed, it does nothing.
    """
    config = UpdateConfig(**options, unlabelled_data=unlabelled_data or None)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as in tcs extract
    from tcs.maintenance.facts import store_facts
    from tcs.maintenance.update import update

    with contextlib.redirect_stdout(sys.stderr):  # stdout is for results, and a teacher of the user's own may print
        changes = update(config)
    if as_json:
        place = config.out if config.out is not None and not (config.dry_run or changes.is_none) else config.store
        click.echo(json.dumps({"changes": changes.to_json(), **store_facts(place)}))
