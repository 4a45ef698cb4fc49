"""What Python code gives a configuration and a command line cannot: values of other types, paths as objects, one for several."""

import dataclasses
import functools
import numbers
import operator
import os
import pathlib
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, SupportsIndex, TypeAlias, TypeVar, get_args, get_origin

from tcs.errors import either, require

AnyPath: TypeAlias = str | os.PathLike[str]
T_co = TypeVar("T_co", covariant=True)


class Several(Protocol[T_co]):
    """Values in an order, as a tuple or a list: what type checkers are told of options that are recorded as tuples.

    A text, which is a sequence of its letters, is none: it asks of `in` that a text is sought.
    """

    def __contains__(self, value: object, /) -> bool: ...
    def __getitem__(self, index: SupportsIndex, /) -> T_co: ...
    def __iter__(self) -> Iterator[T_co]: ...
    def __len__(self) -> int: ...


# Annotation of a field that is given as any path, and is a text from then on: in every artefact, and to whoever reads it. Type checkers
# know one type for both; the public functions in tcs.stages are declared to take any path.
if TYPE_CHECKING:
    PathText: TypeAlias = str
else:
    PathText = AnyPath

SEPARATORS = os.sep + (os.altsep or "")
MOST_SHOWN = 200  # characters of a value in a message
NOUNS: Mapping[Any, str] = {AnyPath: "path", str: "text", int: "whole number", float: "number", Any: "value"}


def take_plain(config: Any) -> None:
    """Put plain values into a frozen dataclass that is being built, so that every artefact can record it, and check their types.

    Texts stand for paths, tuples for lists, Python's numbers for numpy's. ConfigError for a value that its annotation does not
    allow: int is allowed for float, bool is not for int, and a single value never stands for several (the letters of a text
    would be taken for them).
    """
    for field in dataclasses.fields(config):
        object.__setattr__(config, field.name, plain_value(field.name, getattr(config, field.name), field.type))


def plain_value(name: str, value: Any, kind: Any) -> Any:
    """`value`, of the option `name`, as `take_plain` puts it into a field of the annotation `kind`; ConfigError where it does not fit."""
    is_kept, value = recorded(kind), _plain(value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        value = tuple(_plain(item) for item in value)
    shown = _shown(value)
    require(
        _fits(value, is_kept) or not _fits((value,), is_kept),
        f"{name} is {shown}, a single one; it must be a tuple or list, as [{shown}].",
    )
    kinds = kinds_of(kind)
    remedy = ": its .path" if AnyPath in kinds and hasattr(value, "path") else ""
    require(_fits(value, is_kept), f"{name} is {shown}; it must be {either([_words(one) for one in kinds])}{remedy}.")
    return value


def given_path(name: str, value: Any) -> pathlib.Path:
    """A path that a function is given as `name`; ConfigError for what is none."""
    return pathlib.Path(plain_value(name, value, AnyPath))


def recorded(kind: Any) -> Any:
    """The annotation `kind` as its values are recorded: paths as texts."""
    origin, inner = get_origin(kind), get_args(kind)
    if isinstance(kind, types.UnionType):
        return functools.reduce(operator.or_, [recorded(one) for one in inner if get_origin(one) is not os.PathLike])
    return origin[tuple(map(recorded, inner))] if origin in (tuple, Mapping) else kind


def require_config(given: object, kind: type) -> None:
    """TypeError where a stage is given anything but its configuration, an object of the class `kind`."""
    if not isinstance(given, kind):
        raise TypeError(f"config is {_shown(given)}; it must be {_words(kind)}: write tcs.{kind.__name__}(...) for it.")


def require_file_name(path: str, option: str) -> None:
    """ConfigError where `path` ends as a folder's name does: what is written there is a file."""
    name = path.rstrip(SEPARATORS)
    require(
        name == path and name != "",
        f"{option} is '{path}', the name of a folder, and a file is written; name a file, as {name or '.'}/NAME.",
    )


def with_tuples(options: Mapping[str, Any]) -> dict[str, Any]:
    """`options` with tuples where JSON has lists: arguments as they were before they were recorded."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


def _shown(value: object) -> str:
    """A value in a message, in one line: an array's own text has several."""
    return " ".join(repr(value).split())[:MOST_SHOWN]


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, numbers.Integral):
        return value if isinstance(value, int) else int(value)
    return float(value) if isinstance(value, numbers.Real) and not isinstance(value, float) else value


def kinds_of(kind: Any) -> tuple[Any, ...]:
    """The kinds of a union, or the one that `kind` is; any path is one kind."""
    if not isinstance(kind, types.UnionType):
        return (kind,)
    inner = get_args(kind)
    others = tuple(one for one in inner if one not in get_args(AnyPath))
    return (AnyPath, *others) if len(inner) - len(others) == len(get_args(AnyPath)) else inner


def _fits(value: Any, kind: Any) -> bool:
    """Whether `value` is of the annotation `kind`: a class, Any, `a | b`, `tuple[a, ...]`, `tuple[a, a]` or `Mapping[a, b]`."""
    origin, inner = get_origin(kind), get_args(kind)
    if isinstance(kind, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is tuple:
        is_length = isinstance(value, tuple) and (inner[-1] is ... or len(value) == len(inner))
        return is_length and all(_fits(item, inner[0]) for item in value)
    if origin is Mapping:
        is_mapping = isinstance(value, Mapping)
        return is_mapping and all(_fits(key, inner[0]) and _fits(item, inner[1]) for key, item in value.items())
    if kind in (int, float):
        return isinstance(value, int | kind) and not isinstance(value, bool)
    return kind is Any or isinstance(value, kind)


def _words(kind: Any) -> str:
    """How a message calls what fits `kind`, which is one of `kinds_of`."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is tuple:
        return f"a tuple of {'' if inner[-1] is ... else f'{len(inner)} '}{NOUNS[inner[0]]}s"
    if origin is Mapping:
        return f"a mapping of {NOUNS[inner[0]]}s to {NOUNS[inner[1]]}s"
    if kind in (bool, types.NoneType):
        return "True or False" if kind is bool else "None"
    name = NOUNS.get(kind) or kind.__name__
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"
