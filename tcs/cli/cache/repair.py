"""`tcs cache repair`."""

import contextlib
import json
import os
import sys
from typing import Any

import click

from tcs.config.extract import RepairConfig


@click.command(name="repair")
@click.argument("store", type=click.Path())
@click.option("--data", type=click.Path(), help="Where the images are now.  [default: as recorded in STORE]")
@click.option("--teacher", help="The recorded teacher, named by you: asked for where it is Python code.")
@click.option("--teacher-checkpoint", type=click.Path(), help="Where the weights are now.  [default: as recorded]")
@click.option("--device", help="cpu, cuda, cuda:1 ...  [default: as recorded]")
@click.option("-j", "--workers", type=int, help="Decoding processes.  [default: as recorded]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(as_json: bool, **options: Any) -> int:
    """Extract the bad and missing shards of STORE again, with the options it records, and touch nothing else.

    Exit code 0: the store is sound now. A sound store is left as it is. Run it again where it was cut short.
    """
    config = RepairConfig(**options)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as in tcs extract
    from tcs.maintenance.repair import repair
    from tcs.maintenance.verify import result_lines

    with contextlib.redirect_stdout(sys.stderr):  # stdout is for results, and a teacher of the user's own may print
        found = repair(config)
    click.echo(json.dumps(found.to_json()) if as_json else "\n".join(result_lines(found)))
    return 0 if found.is_sound else 1
