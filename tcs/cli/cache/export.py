"""`tcs cache export`. Loads neither torch nor a teacher."""

import json

import click


@click.command(name="export")
@click.argument("store", type=click.Path())
@click.option("--out", required=True, type=click.Path(), help="FILE.parquet, or else a folder of .npy and text files.")
@click.option("--overwrite", is_flag=True, help="Replace the export that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(store: str, out: str, overwrite: bool, as_json: bool) -> None:
    """Write keys, labels, hashes and features of STORE into a folder of arrays, or into one parquet file.

    Every byte is checked on the way. Images stay behind. Run the same command again to finish what was cut short.
    """
    import cache
    from tcs.cli.cache.info import say_if_finished, stamp
    from tcs.exchange.features import export_features
    from tcs.runtime import progress_bar, say

    before, opened = stamp(out), cache.open(store)
    with progress_bar(len(opened), "export", "rows") as bar:
        export_features(store, out, overwrite=overwrite, progress=bar.advance)
    say_if_finished(out, before)
    if as_json:
        click.echo(json.dumps({"out": out, "store": store, "identity": opened.identity, "rows": len(opened)}))
    say(f"{out}: {len(opened):,} rows.")
