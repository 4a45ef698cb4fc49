"""`tcs cache merge`. Loads neither torch nor a teacher."""

import click


@click.command(name="merge")
@click.argument("stores", type=click.Path(), nargs=-1, required=True)
@click.option("--out", required=True, type=click.Path(), help="Folder of the merged store, NAME.store by custom.")
@click.option("--prefix-keys", is_flag=True, help="Put each store's name before its keys, where keys are the same.")
@click.option("--rows-per-shard", type=int, help="Rows per file of the store.  [default: as in the first store]")
@click.option("--overwrite", is_flag=True, help="Delete the store that is there, and begin anew.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(
    stores: tuple[str, ...], out: str, prefix_keys: bool, rows_per_shard: int | None, overwrite: bool, as_json: bool
) -> None:
    """Write the rows of all STORES, in this order, into one store: as if one extraction had made them.

    The stores must be made alike (teacher, preprocessing, readouts ...) and have different keys. Classes are matched by name.
    Run the same command again to resume.
    """
    import cache
    from tcs.cli.cache.info import stamp, tell
    from tcs.runtime import progress_bar

    before = stamp(out)
    with progress_bar(sum(len(cache.open(store).manifest.plan.keys) for store in stores), "merge", "rows") as bar:
        cache.merge(
            stores,
            out,
            prefix_keys=prefix_keys,
            rows_per_shard=rows_per_shard,
            overwrite=overwrite,
            progress=bar.advance,
        )
    tell(out, as_json, before)
