"""`tcs cache unpack`. Loads neither torch nor a teacher."""

import click


@click.command(name="unpack")
@click.argument("packed", type=click.Path())
@click.option("--out", required=True, type=click.Path(), help="Folder of the store, NAME.store by custom.")
@click.option("--overwrite", is_flag=True, help="Delete the store that is there, and begin anew.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(packed: str, out: str, overwrite: bool, as_json: bool) -> None:
    """Write the store in the file PACKED into the folder it was packed from, with the same identity and content.

    Every byte is checked on the way. Run the same command again to resume.
    """
    import cache
    from tcs.cli.cache.info import stamp, tell
    from tcs.runtime import progress_bar

    before = stamp(out)
    with progress_bar(len(cache.open(packed)), "unpack", "rows") as bar:
        cache.unpack(packed, out, overwrite=overwrite, progress=bar.advance)
    tell(out, as_json, before)
