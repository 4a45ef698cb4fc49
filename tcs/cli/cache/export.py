"""`tcs cache export`. Loads neither torch nor a teacher."""

import click


@click.command(name="export")
@click.argument("store", type=click.Path())
@click.option(
    "--to", "out", required=True, type=click.Path(), help="FILE.parquet, or else a folder of .npy and text files."
)
@click.option("--overwrite", is_flag=True, help="Replace the export that is there.")
def command(store: str, out: str, overwrite: bool) -> None:
    """Write keys, labels, hashes and features of STORE into a folder of arrays, or into one parquet file.

    Every byte is checked on the way. Images stay behind. Run the same command again to finish what was cut short.
    """
    import cache
    from tcs.exchange import export_features
    from tcs.runtime import progress_bar, say

    rows = len(cache.open(store))
    with progress_bar(rows, "export", "rows") as bar:
        export_features(store, out, overwrite=overwrite, progress=bar.advance)
    say(f"{out}: {rows:,} rows.")
