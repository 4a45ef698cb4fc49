"""`tcs suggest`: from a store (and the labels so far) to a table of the images to label next, and pictures to label them from.

The store's own labels are never read: what is labelled is what the file of `labelled` says. Legend: M labelled rows.
"""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

import cache
from tcs.config.labelling import SuggestConfig
from tcs.coordinates.stores import open_stores
from tcs.coordinates.vectors import row_vectors
from tcs.errors import ArtefactError, DataError
from tcs.images.stored import find_images, rules_of
from tcs.labelling.choice import choose_rows
from tcs.labelling.pictures import require_copies, write_folder, write_sheet
from tcs.labelling.points import points_of
from tcs.labelling.table import Suggestion, require_replaceable, require_same, write_suggestions
from tcs.runtime import say
from tcs.splits.label_file import GivenLabels, read_labels

NO_LABELS = GivenLabels(rows_M=np.empty(0, np.int64), labels_M=np.empty(0, np.int64), classes=())


def suggest(config: SuggestConfig) -> tuple[Suggestion, ...]:
    """The `config.n` images to label next, best first, written to `config.out` (and `sheet`, `folder`).

    Each has its `key`, its `rank` from 1, the `reason` in words, and the number of its `row` in the store. Without labels they are the
    densest images of as many clusters (TypiClust: Hacohen et al. 2022, arXiv 2202.02794); with labels, of clusters without one, where
    the transductive probe is unsure.

    A pure function of the features, the labels in `config.labelled` and the seed, on one machine. Where the outputs of the same
    command are there already they are left as they are, with the classes that people have filled in, and missing ones are
    written. ArtefactError for outputs made otherwise, unless `overwrite` replaces them; DataError for too few unlabelled rows,
    unknown keys in the file, features that are not finite, and images that cannot be had.
    """
    store = open_stores(config.store, config.also)
    store.features(config.readout)  # refuses an unknown name, or none among several
    readout = config.readout if config.readout is not None else next(iter(store.readouts))
    given = NO_LABELS if config.labelled is None else read_labels(config.labelled, store.keys, "--labelled")
    _check_number(config, len(store), len(given.rows_M))
    is_there = _check_outputs(config)
    pictures = _pictures(config, store)
    choices = choose_rows(points_of(row_vectors(store, readout), store.widths(readout)), config.n, given, config.seed)
    suggestions = tuple(
        Suggestion(row=choice.row, key=store.keys[choice.row], rank=rank, reason=choice.reason)
        for rank, choice in enumerate(choices, 1)
    )
    _write(config, suggestions, pictures, is_there)
    if len(given.classes) == 1:
        say(f"all rows in {config.labelled} are of one class; where labels are unsure can be told from two classes on.")
    return suggestions


def _check_number(config: SuggestConfig, rows: int, labelled: int) -> None:
    """DataError where fewer rows than --n are without a label."""
    if labelled == rows:
        raise DataError(
            f"each of the {rows:,} rows of {config.store} has a class in {config.labelled}; nothing is left to label."
        )
    if config.n > rows - labelled:
        without = f"; {labelled:,} of them have a class in {config.labelled}" if labelled else ""
        raise DataError(
            f"--n is {config.n}, and {config.store} has {rows:,} rows{without}; ask for {rows - labelled} or fewer."
        )


def _check_outputs(config: SuggestConfig) -> bool:
    """Whether a table is there that may be this command's; ArtefactError for outputs that are not to be written over."""
    out = pathlib.Path(config.out)
    others = [pathlib.Path(path) for path in (config.sheet, config.folder) if path is not None]
    if config.overwrite:
        if config.folder is not None and pathlib.Path(config.folder).exists():
            require_copies(pathlib.Path(config.folder))
        return False
    if out.exists():
        require_replaceable(out, config.n)
        return True
    for path in (out, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            raise ArtefactError(f"{path} exists, without the table {out}; name another place, or pass --overwrite.")
    return False


def _pictures(config: SuggestConfig, store: cache.Store) -> list[tuple[pathlib.Path, Callable[..., None]]]:
    """What else is to be written, each with its writer; DataError, before anything is read, where images cannot be had."""
    sheet = functools.partial(write_sheet, rules=rules_of(store))
    asked = [(config.sheet, sheet), (config.folder, write_folder)]
    wanted = [(pathlib.Path(path), writer) for path, writer in asked if path is not None]
    if not wanted:
        return []
    read = find_images(store, config.data)
    return [(path, lambda path, items, write=writer: write(path, items, read)) for path, writer in wanted]


@contextlib.contextmanager
def _table(out: pathlib.Path, suggestions: tuple[Suggestion, ...], *, overwrite: bool) -> Iterator[None]:
    """The table before its pictures, so that the same command writes those that a kill left out, and goes on where nothing is left; an
    error removes it again. With `overwrite`, which replaces everything again, after them."""
    if overwrite:
        yield
        write_suggestions(out, suggestions)
        return
    write_suggestions(out, suggestions)
    try:
        yield
    except BaseException:
        out.unlink(missing_ok=True)
        raise


def _write(
    config: SuggestConfig,
    suggestions: tuple[Suggestion, ...],
    pictures: list[tuple[pathlib.Path, Callable[..., None]]],
    is_there: bool,
) -> None:
    """Table and pictures, or the pictures that are missing beside a table that is there."""
    out = pathlib.Path(config.out)
    if is_there:
        require_same(out, suggestions)
    with contextlib.nullcontext() if is_there else _table(out, suggestions, overwrite=config.overwrite):
        for path, write in pictures:
            if config.overwrite or not path.exists():
                write(path, suggestions)
            else:
                with cache.locked_file(
                    path
                ):  # which removes what a writer left that was killed as soon as the file had its name
                    pass
    if is_there:
        say(f"{out} is already there, made with the same options; it is left as it is.")
        return
    say(
        f"Fill in the column class of {out}; it is then --label-file of tcs distill, tcs extract and tcs cache label, --split-file "
        "of tcs train, and --labelled of tcs suggest."
    )
