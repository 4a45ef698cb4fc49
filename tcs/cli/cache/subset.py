"""`tcs cache subset`. Loads neither torch nor a teacher."""

import click

from tcs.config.audit import DEFAULT_KINDS, KINDS, ExclusionConfig


@click.command(name="subset")
@click.argument("store", type=click.Path())
@click.option("--out", required=True, type=click.Path(), help="Folder of the new store, NAME.store by custom.")
@click.option("--class", "classes", multiple=True, help="Keep this class. Repeatable.")
@click.option("--keys", "keys_file", type=click.Path(), help="Keep the keys of this file, one a line.")
@click.option("--split-file", type=click.Path(), help="Keep the rows of this k-shot file, `class key` lines.")
@click.option("--exclude", type=click.Path(), help="Leave out what this table of tcs audit names.")
@click.option(
    "--exclude-kind",
    "kinds",
    multiple=True,
    type=click.Choice(KINDS),
    help=f"Kind of its lines to leave out.  [default: {', '.join(DEFAULT_KINDS)}]  Repeatable.",
)
@click.option("--exclude-top", type=int, help="How many label errors to leave out, with --exclude-kind label-error.")
@click.option("--readout", "readouts", multiple=True, help="Keep this readout.  [default: all]  Repeatable.")
@click.option("--images", type=click.Choice(["none"]), help="none leaves the images out.")
@click.option("--rows-per-shard", type=int, help="Rows per file of the store.  [default: as in STORE]")
@click.option("--overwrite", is_flag=True, help="Delete the store that is there, and begin anew.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(
    store: str,
    out: str,
    classes: tuple[str, ...],
    keys_file: str | None,
    split_file: str | None,
    exclude: str | None,
    kinds: tuple[str, ...],
    exclude_top: int | None,
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

    keys = _without(store, _keys(store, keys_file, split_file), exclude, kinds, exclude_top)
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


def _without(
    store: str, keys: list[str] | None, exclude: str | None, kinds: tuple[str, ...], top: int | None
) -> list[str] | None:
    """`keys` (None: all of the store) less those that a table of an audit names; one line says how many that are."""
    from tcs.errors import DataError, number_of, require

    if exclude is None:
        require(not kinds and top is None, "--exclude-kind and --exclude-top have no effect without --exclude.")
        return keys
    config = ExclusionConfig(exclude=exclude, kinds=kinds or DEFAULT_KINDS, top=top)
    import cache
    from tcs.auditing.exclusion import excluded_keys
    from tcs.runtime import say

    opened = cache.open(store)
    dropped = excluded_keys(config, opened.keys)
    if not dropped:
        raise DataError(
            f"--exclude {exclude} names nothing of the kinds {', '.join(config.kinds)}, so nothing would be left out; name other kinds "
            "with --exclude-kind, or leave --exclude out."
        )
    kept = [key for key in (opened.keys if keys is None else keys) if key not in dropped]
    if not kept:
        raise DataError(f"--exclude {exclude} names every image; nothing would be left. Exclude fewer.")
    say(
        f"{number_of(len(dropped), 'image')} {'is' if len(dropped) == 1 else 'are'} left out by {exclude} ({', '.join(config.kinds)})."
    )
    return kept


def _lines(path: str) -> list[str]:
    """The lines of a UTF-8 text file that are not empty. Raises DataError."""
    from tcs.errors import DataError
    from tcs.ordinary import read_ordinary

    try:
        text = read_ordinary(path).decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"--keys {path} cannot be read ({error.strerror}); name a file with one key a line.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"--keys {path} is no UTF-8 text ({error}); write one key a line.") from error
    return [line.removesuffix("\r") for line in text.split("\n") if line.strip()]
