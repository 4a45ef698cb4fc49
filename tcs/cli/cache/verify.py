"""`tcs cache verify`."""

import json
import pathlib
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cache import Verification


@click.command(name="verify")
@click.argument("store", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(store: str, as_json: bool) -> int:
    """Check every byte of STORE, and list all that is wrong with it.

    Exit code 0: the store is whole and sound. 1: something is wrong, or shards are still to be written.
    """
    found = checked(store)
    if as_json:
        click.echo(json.dumps(found.to_json()))
    else:
        click.echo("\n".join(lines(found)))
    return 0 if found.is_sound else 1


def checked(store: str) -> "Verification":
    """The verification of the store, under a progress bar."""
    import cache
    from tcs.runtime import progress_bar

    files = [path for path in pathlib.Path(store).glob("shard-*.h5") if path.is_file()]
    with progress_bar(sum(path.stat().st_size for path in files), "verify", "bytes") as bar:
        return cache.verify(store, bar.advance)


def lines(found: "Verification") -> list[str]:
    """The result in words: a line for each problem, then one for the whole."""
    told = [f"{found.path / problem.file}: {problem.what}" for problem in found.problems]
    what = f"{found.shards} of {found.planned} shards, {found.rows:,} rows, {found.bytes / 1e6:,.1f} MB checked"
    if found.is_sound:
        return [f"{found.path} is sound: {what}."]
    if found.pending:
        told.append(f"{found.path} is incomplete: {len(found.pending)} of {found.planned} shards are not written yet.")
    elif found.state == "open":
        told.append(f"{found.path} is incomplete: all shards are there, but it was never closed.")
    remedy = f"tcs cache repair {found.path} writes again what is bad or missing"
    return [*told, f"{found.path}: {len(found.problems)} problems, {what}; {remedy}."]
