"""`tcs verify`."""

import json

import click


@click.command()
@click.argument("path", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(path: str, as_json: bool) -> int:
    """Check whatever tcs wrote at PATH, and list all that is wrong with it.

    A store, coordinates, targets, a run or one student of it, a grid, results of tcs probe, an exported student, a split file, one
    file of these, or a folder of several. Exit code 0: it is whole and sound. 1: it is not, or something of it is still to be done.
    Nothing is written.
    """
    from tcs.verifying.verify import verify

    found = verify(path)
    click.echo(json.dumps(found.to_json()) if as_json else "\n".join(found.lines()))
    return 0 if found.is_sound else 1
