"""`tcs cache unpack`. Loads neither torch nor a teacher."""

import click


@click.command(name="unpack")
@click.argument("packed", type=click.Path())
@click.option("--out", required=True, type=click.Path(), help="Folder of the store, NAME.store by custom.")
@click.option("--overwrite", is_flag=True, help="Delete the store that is there, and begin anew.")
def command(packed: str, out: str, overwrite: bool) -> None:
    """Write the store in the file PACKED into the folder it was packed from, with the same identity and content.

    Every byte is checked on the way. Run the same command again to resume.
    """
    import cache
    from tcs.runtime import progress_bar, say

    rows = len(cache.open(packed))
    with progress_bar(rows, "unpack", "rows") as bar:
        cache.unpack(packed, out, overwrite=overwrite, progress=bar.advance)
    say(f"{out}: {rows:,} rows.")
