"""Labels that people give to images of a store or a data set: by keys, or by paths as they were given to the command.

`tcs extract --label-file` and `tcs cache label` both end in `give_labels`, so that a file may grow between two runs of either.
"""

import contextlib
import os
import pathlib
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import cache
from tcs.config.labelling import LabelConfig
from tcs.config.names import finder, same_form
from tcs.errors import DataError, did_you_mean, either, listed, number_of
from tcs.ordinary import read_ordinary
from tcs.runtime import environment, say
from tcs.splits.counts import describe_labels
from tcs.splits.followed import followed_in
from tcs.splits.label_file import LabelLine, read_key_lines, read_label_lines

OPTION, REMOVE = "--label-file", "--remove-file"
NEAREST = 3
LISTED = 5


def read_given_labels(
    path: str, keys: Sequence[str], origin: Mapping[str, Any], where: str, former: Iterable[str] = ()
) -> dict[str, str]:
    """Key -> class name of every image that the file labels, in its order; a line may stand there twice.

    An image is named by its key, by its key without the class folder, or by its path (`origin` says where the images lie, as
    stores record it). What is none of `keys` may be one of the `former`. DataError: the file cannot be read or labels nothing, a line
    names no image of `where`, an image has two classes.
    """
    lines = read_label_lines(path, OPTION)
    if not lines:
        raise DataError(
            f"{path} labels no image; write lines `class key`, or fill in the column class of a table with a column key or path."
        )
    key_of = _resolver(keys, origin, where, former)
    spelling: dict[str, str] = {}
    found: dict[str, str] = {}
    first: dict[str, LabelLine] = {}
    for line in lines:
        key, name = key_of(line), spelling.setdefault(same_form(line.name), line.name)
        if found.setdefault(key, name) != name:
            raise DataError(
                f"{line.place} gives '{key}' the class '{line.name}', and line {first[key].number} gives it '{found[key]}'; "
                "keep one of the two lines."
            )
        first.setdefault(key, line)
    return found


def read_removed(path: str, keys: Sequence[str], origin: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The keys of the images that the file names, each once, in its order. DataError: it cannot be read or names none, or a line names no
    image of `where`."""
    lines = read_key_lines(path, REMOVE)
    if not lines:
        raise DataError(f"{path} names no image; write keys, one a line, or a table with a column key or path.")
    return tuple(dict.fromkeys(map(_resolver(keys, origin, where), lines)))


def _resolver(
    keys: Sequence[str], origin: Mapping[str, Any], where: str, former: Iterable[str] = ()
) -> Callable[[LabelLine], str]:
    """The key that a line means; DataError where it means none."""
    finders, roots = (finder(keys), finder(former)), roots_of(origin)

    def key_of(line: LabelLine) -> str:
        meant = (find(text) for find in finders for text in _spellings(line, roots))
        key = next((known for known in meant if known is not None), None)
        if key is None:
            raise DataError(f"{line.place} names '{line.key}', which is no image of {where}.{_nearest(line.key, keys)}")
        return key

    return key_of


def roots_of(origin: Mapping[str, Any]) -> dict[str, str]:
    """Beginning of keys -> the folder that the rest of such a key is relative to, of an `ImageList.origin`."""
    roots = {"": str(origin["path"])} if origin.get("kind") == "folder" and "path" in origin else {}
    for part in origin.get("unlabelled", ()):
        if part.get("kind") == "folder":
            roots[f"{part['name']}/"] = str(part["path"])
    return roots


def give_labels(
    store: str | os.PathLike[str], path: str, names: Mapping[str, str], provenance: Mapping[str, Any] | None = None
) -> cache.LabelChanges:
    """Label the images (by key) of a closed store as `names` says, read from the file `path`, and say what changed.

    `provenance` are entries that the store is to record instead of those of the same names.
    """
    found = set_given(store, path, names, provenance=provenance)
    say(label_sentence(store, path, len(names), (found.added, found.changed, found.removed)))
    return found


def set_given(
    store: str | os.PathLike[str],
    path: str,
    names: Mapping[str, str],
    gone: Mapping[str, str | None] | None = None,
    provenance: Mapping[str, Any] | None = None,
    source: Mapping[str, Any] | None = None,
) -> cache.LabelChanges:
    """The same without a word. `gone` are images that the file labels no more, with what they are without it; `source` is recorded of the
    change beside the file."""
    stored = cache.stored_labels(store)
    spelled = as_spelled(names, () if stored is None else stored[1])
    told = {**_origin(path), "environment": environment(), **(source or {})}
    return cache.set_labels(store, {**(gone or {}), **spelled}, source=told, provenance=provenance)


def label_sentence(
    store: str | os.PathLike[str], path: str, count: int, changes: tuple[int, int, int], *, is_planned: bool = False
) -> str:
    """What the `count` labels of a file change in a store: how many are added, corrected and taken away."""
    added, changed, removed = changes
    if not any(changes):
        labels = "the label" if count == 1 else f"all {count:,} labels"
        return f"{store}: {labels} of {path} {'is' if count == 1 else 'are'} there already."
    taken = f", {removed:,} taken away" if removed else ""
    would = " would be" if is_planned else ""
    return f"{store}: {number_of(added, 'label')}{would} added and {changed:,} corrected{taken} by {path}."


def passed_over(path: str, keys: Iterable[str]) -> str:
    """The note on lines of a label file for images that have left the data set."""
    named = sorted(keys)
    verb, lines = ("is", "its line is") if len(named) == 1 else ("are", "their lines are")
    images = f"{number_of(len(named), 'image')} that it names"
    return f"{path}: {images} {verb} in the data no more; {lines} passed over: {listed(named, LISTED)}."


def as_spelled(names: Mapping[str, str], classes: Iterable[str]) -> dict[str, str]:
    """The names with those of `classes` spelled as they are there."""
    find = finder(classes)
    return {key: find(name) or name for key, name in names.items()}


def label_store(config: LabelConfig) -> cache.LabelChanges:
    """Give images of a closed store labels, correct them, or take them away, without a teacher; returns how many of each.

    Images that the files do not name keep their labels. The store keeps its identity, so coordinates and targets stay valid;
    splits, spread labels and results that read labels are others. DataError for a file that cannot be read, an image that the store
    lacks, two classes for one image, or a class and none; CacheError for a store that is open, packed or in use.
    """
    opened = cache.open(config.store)
    origin = opened.manifest.provenance.get("data")
    keys, roots = opened.manifest.plan.keys, origin if isinstance(origin, Mapping) else {}
    removed = () if config.remove_file is None else read_removed(config.remove_file, keys, roots, config.store)
    names = {} if config.label_file is None else _present(opened, config.label_file, roots, config.store)
    both = sorted(names.keys() & set(removed))
    if both:
        raise DataError(
            f"{config.remove_file} takes the label of '{both[0]}' away, and {config.label_file} gives it the class "
            f"'{names[both[0]]}'; keep one of the two lines."
        )
    found = _set(config, names, removed)
    after = cache.open(config.store)
    say(f"{config.store}: {describe_labels(after.labels_N, after.classes)}")
    return found


def _present(store: cache.Store, path: str, roots: Mapping[str, Any], where: str) -> dict[str, str]:
    """What the file says of images that the store has; a line is said of those that have left it."""
    keys, gone = store.manifest.plan.keys, followed_in(store.manifest.provenance).gone
    named = read_given_labels(path, keys, roots, where, gone)
    passed = set(named).difference(keys)
    if passed:
        say(passed_over(path, passed))
    return {key: name for key, name in named.items() if key not in passed}


def _set(config: LabelConfig, names: Mapping[str, str], removed: Sequence[str]) -> cache.LabelChanges:
    """All changes in one write, and a sentence for each file."""
    gone = dict.fromkeys(removed)
    taken = {} if config.remove_file is None else {"removed_by": _origin(config.remove_file)}
    if config.label_file is None:
        found = cache.set_labels(config.store, gone, source={**taken, "environment": environment()})
    else:
        found = set_given(config.store, config.label_file, names, gone, source=taken)
        say(label_sentence(config.store, config.label_file, len(names), (found.added, found.changed, 0)))
    if removed:
        without = f"; {len(removed) - found.removed:,} had none" if found.removed < len(removed) else ""
        say(f"{config.store}: {number_of(found.removed, 'label')} taken away by {config.remove_file}{without}.")
    return found


def _origin(path: str) -> dict[str, str]:
    return {"file": path, "digest": cache.digest_of_bytes(read_ordinary(path))}


def _spellings(line: LabelLine, roots: Mapping[str, str]) -> Iterator[str]:
    """The keys that a line may mean, likeliest first."""
    yield line.key
    yield f"{line.name}/{line.key}"
    yield posixpath.normpath(line.key)
    for beginning, root in roots.items():
        with contextlib.suppress(ValueError):
            yield beginning + _absolute(line.key).relative_to(_absolute(root)).as_posix()


def _absolute(path: str) -> pathlib.Path:
    """From the root on, without `..`; links are not followed, as keys do not follow them."""
    return pathlib.Path(os.path.normpath(pathlib.Path(path).absolute()))


def _nearest(text: str, keys: Sequence[str]) -> str:
    """` Did you mean ...?`: keys of the same file name where there are some, which no search through all keys is needed for."""
    name = posixpath.basename(text)
    same = [key for key in keys if posixpath.basename(key) == name][:NEAREST] if name else []
    return f" Did you mean {either(same)}?" if same else did_you_mean(text, keys) or " Correct it."
