"""`tcs cache pack`. Loads neither torch nor a teacher."""

import click

from tcs.config.plain import require_file_name


@click.command(name="pack")
@click.argument("store", type=click.Path())
@click.option("--out", required=True, type=click.Path(), help="The file to write, NAME.h5 by custom.")
@click.option("--overwrite", is_flag=True, help="Replace the packed store that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(store: str, out: str, overwrite: bool, as_json: bool) -> None:
    """Write the store in the folder STORE into one file that every command takes in its place.

    The packed store has the same identity, and each readout is one array in it. Every byte is checked on the way. Run again,
    the command leaves a finished file as it is.
    """
    require_file_name(out, "--out")
    import cache
    from tcs.cli.cache.info import stamp, tell
    from tcs.runtime import progress_bar

    before = stamp(out)
    with progress_bar(len(cache.open(store)), "pack", "rows") as bar:
        cache.pack(store, out, overwrite=overwrite, progress=bar.advance)
    tell(out, as_json, before)
