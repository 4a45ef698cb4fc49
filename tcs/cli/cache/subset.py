"""`tcs cache subset`. Loads neither torch nor a teacher."""

import pathlib

import click


@click.command(name="subset")
@click.argument("store", type=click.Path())
@click.option("--out", required=True, type=click.Path(), help="Folder of the new store, NAME.store by custom.")
@click.option("--class", "classes", multiple=True, help="Keep this class. Repeatable.")
@click.option("--keys", "keys_file", type=click.Path(), help="Keep the keys of this file, one a line.")
@click.option("--split-file", type=click.Path(), help="Keep the rows of this k-shot file, `class key` lines.")
@click.option("--readout", "readouts", multiple=True, help="Keep this readout.  [default: all]  Repeatable.")
@click.option("--images", type=click.Choice(["none"]), help="none leaves the images out.")
@click.option("--rows-per-shard", type=int, help="[default: as in STORE]")
@click.option("--overwrite", is_flag=True, help="Delete the store that is there, and begin anew.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(
    store: str,
    out: str,
    classes: tuple[str, ...],
    keys_file: str | None,
    split_file: str | None,
    readouts: tuple[str, ...],
    images: str | None,
    rows_per_shard: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write part of STORE into a store of its own: the rows that all given options name, in the order of STORE.

    Run the same command again to resume.
    """
    import cache
    from tcs.cli.cache.info import stamp, tell
    from tcs.runtime import progress_bar

    keys = _keys(store, keys_file, split_file)
    before = stamp(out)
    with progress_bar(len(cache.open(store)) if keys is None else len(keys), "subset", "rows") as bar:
        cache.subset(
            store,
            out,
            classes=classes or None,
            keys=keys,
            readouts=readouts or None,
            images=images,
            rows_per_shard=rows_per_shard,
            overwrite=overwrite,
            progress=bar.advance,
        )
    tell(out, as_json, before)


def _keys(store: str, keys_file: str | None, split_file: str | None) -> list[str] | None:
    """The keys that both files name, in the order of the first one given; None where neither is."""
    from tcs.errors import DataError

    named = None if keys_file is None else _lines(keys_file)
    if split_file is None:
        return named
    import cache
    from tcs.splits.relabelling import relabelled
    from tcs.splits.shots import read_split_file

    opened = relabelled(cache.open(store), split_file)
    split = read_split_file(split_file, opened.keys, opened.labels_N, opened.classes)
    drawn = [opened.keys[row] for row in split.rows_n.tolist()]
    if named is None:
        return drawn
    both = set(drawn) & set(named)
    if not both:
        raise DataError(f"{keys_file} and {split_file} have no key in common; give one of them, or other files.")
    return [key for key in named if key in both]


def _lines(path: str) -> list[str]:
    """The lines of a UTF-8 text file that are not empty. Raises DataError."""
    from tcs.errors import DataError

    try:
        text = pathlib.Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"--keys {path} cannot be read ({error.strerror}); name a file with one key a line.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"--keys {path} is no UTF-8 text ({error}); write one key a line.") from error
    return [line.removesuffix("\r") for line in text.split("\n") if line.strip()]
