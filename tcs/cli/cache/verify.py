"""`tcs cache verify`."""

import json

import click


@click.command(name="verify")
@click.argument("store", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(store: str, as_json: bool) -> int:
    """Check every byte of STORE, and list all that is wrong with it.

    Exit code 0: the store is whole and sound. 1: something is wrong, or shards are still to be written.
    """
    from tcs.verification import result_lines, verified

    found = verified(store)
    if as_json:
        click.echo(json.dumps(found.to_json()))
    else:
        click.echo("\n".join(result_lines(found)))
    return 0 if found.is_sound else 1
