"""Values of a recipe, checked against what each key takes, before anything is opened.

As in files of `-c` (tcs.cli.config_file), a number may be written as 1e-3, which YAML 1.1 calls a text. Nothing else is converted:
10.5 steps, a text for a list or `true` for a number are a ConfigError of one line that names file, key and value.
"""

import dataclasses
import pathlib
import types
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

import yaml

from tcs.config.plain import recorded
from tcs.config.train import PARTS, TrainConfig
from tcs.config.unlabelled import parse_pool, without_text
from tcs.errors import ConfigError, did_you_mean
from tcs.ordinary import read_ordinary

MOST_BYTES = 16 << 20
ONE = {int: "a whole number, as 4", float: "a number, as 0.1", bool: "true or false", str: "a text"}
MANY = {int: "whole numbers, as [1, 4, 16]", float: "numbers, as [0.1, 0.9]", str: "texts, as [a, b]"}
KINDS: Mapping[str, Any] = {
    field.name: recorded(field.type) for part in (TrainConfig, *PARTS.values()) for field in dataclasses.fields(part)
}


def load_mapping(path: pathlib.Path, known: tuple[str, ...], needed: tuple[str, ...]) -> dict[str, Any]:
    """The mapping of a recipe file, with no key beside the `known` ones and a value for each `needed` one."""
    try:
        recipe = yaml.safe_load(read_ordinary(path, MOST_BYTES))
    except OSError as error:
        raise ConfigError(f"recipe {path} cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: 2026-13-45, which is no date
        raise ConfigError(f"recipe {path} is not YAML: {' '.join(str(error).split())[:200]}.") from error
    if not isinstance(recipe, dict):
        raise ConfigError(f"recipe {path} must be a mapping with {', '.join(known)}.")
    for text_of in _texts_in(recipe):
        if any(unicodedata.category(letter) == "Cc" for letter in text_of):
            raise ConfigError(
                f"recipe {path} has the text {text_of[:80]!a}, which holds control characters; write it without them."
            )
    found = checked_keys(recipe, known, f"recipe {path}")
    for key in needed:
        if not found.get(key):
            raise ConfigError(f"recipe {path} lacks '{key}', or it is empty; give at least one value.")
    return found


def _texts_in(value: Any) -> Iterator[str]:
    """All texts of a recipe but its note, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _texts_in(key)
            yield from _texts_in(part if key != "note" else None)
    elif isinstance(value, list):
        for part in value:
            yield from _texts_in(part)


def checked_keys(given: Any, known: tuple[str, ...], where: str) -> dict[str, Any]:
    """`given` as a new mapping (empty for None) whose keys are all `known`; `where` names it in errors."""
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError(f"{where} must be a mapping, as {{{known[0]}: ...}}, and not {_shown(given)}.")
    for key in given or {}:
        if key not in known:
            raise ConfigError(
                f"{where} has the unknown key '{key}'; known keys are {', '.join(known)}.{did_you_mean(str(key), known)}"
            )
    return dict(given or {})


def checked_options(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Options of `tcs train`, each of the type of its field."""
    return {name: typed(value, KINDS[name], name, where) for name, value in given.items()}


def typed(value: Any, kind: Any, key: str, where: str) -> Any:
    """`value` as the type `kind` takes it: itself, or the number that a text stands for; a list stays a list."""
    try:
        return _taken(value, kind)
    except (TypeError, ValueError):
        raise ConfigError(f"{where} has {key}: {_shown(value)}; it must be {_said(kind)}.") from None


def text(value: Any, key: str, where: str) -> str:
    """One text that is not empty."""
    found = str(typed(value, str, key, where))
    if not found:
        raise ConfigError(f"{where} has {key}: ''; it must be a text that is not empty.")
    return found


def texts(value: Any, key: str, where: str) -> tuple[str, ...]:
    """A list of texts."""
    return tuple(typed(value, tuple[str, ...], key, where))


def entries(value: Any, key: str, where: str) -> list[Any]:
    """A list of one or more entries, whatever they are."""
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{where} has {key}: {_shown(value)}; it must be a list of at least one, as [a, b].")
    return value


def whole_numbers(value: Any, key: str, where: str, least: int = 0) -> tuple[int, ...]:
    """A list of one or more whole numbers from `least` up."""
    found = typed(value, tuple[int, ...], key, where)
    if not found or min(found) < least:
        raise ConfigError(
            f"{where} has {key}: {_shown(value)}; it must be a list of whole numbers from {least} up, as [1, 4, 16]."
        )
    return tuple(found)


def one_of(value: Any, known: Sequence[str], key: str, where: str) -> str:
    """One of some texts."""
    if value not in known:
        raise ConfigError(f"{where} has {key}: {_shown(value)}; it must be {' or '.join(known)}.")
    return str(value)


def share(value: Any, key: str, where: str) -> float | None:
    """A number above 0 and up to 1, or null."""
    found = typed(value, float | None, key, where)
    if found is not None and not 0 < found <= 1:
        raise ConfigError(f"{where} has {key}: {_shown(value)}; it must be a number above 0 and up to 1, as 0.98.")
    return None if found is None else float(found)


def primary_of(value: Any, where: str) -> tuple[str, str] | None:
    """The two rows that the one comparison of the grid is about."""
    if value is None:
        return None
    if not (isinstance(value, list) and len(value) == 2 and value[0] != value[1]):
        raise ConfigError(f"{where} has primary: {value}; it must name two methods, as [tcs+elsh, labels].")
    return str(value[0]), str(value[1])


def pools(value: Any, key: str, where: str) -> tuple[str, ...]:
    """A list of one or more pools, as texts: all, none, a number of rows, longtail-F, or one without some classes, which may also be
    written as {without: [a, b]}."""
    given = [_pool_text(entry) for entry in value] if isinstance(value, list) else []
    found = tuple(entry for entry in given if entry is not None)
    if not found or len(found) < len(given):
        raise ConfigError(
            f"{where} has {key}: {_shown(value)}; it must be a list of all, none or whole numbers of rows, as [none, 10000], of "
            "longtail-F with F above 1, or of {without: [a, b]}."
        )
    return found


def _pool_text(entry: Any) -> str | None:
    """The pool as `tcs train --unlabelled` takes it; None for what is none."""
    if isinstance(entry, Mapping) and list(entry) == ["without"] and isinstance(entry["without"], list):
        entry = without_text([str(name) for name in entry["without"]])
    if not isinstance(entry, str | int) or isinstance(entry, bool):
        return None
    try:
        parse_pool(str(entry))
    except ConfigError:
        return None
    return str(entry)


def _taken(value: Any, kind: Any) -> Any:
    """As `typed`; TypeError or ValueError where the value is of another kind."""
    if isinstance(kind, types.UnionType):
        return None if value is None else _taken(value, _not_null(kind))
    if get_origin(kind) is tuple:
        return [_taken(entry, one) for entry, one in zip(_listed(value), _kinds_of(kind, len(value)), strict=True)]
    if kind is float and isinstance(value, str):
        return float(value)
    fits = isinstance(value, int | float if kind is float else kind)
    if not fits or isinstance(value, bool) != (kind is bool):  # to Python, a bool is a number
        raise TypeError
    return value


def _not_null(kind: Any) -> Any:
    """X of X | None."""
    (found,) = [part for part in get_args(kind) if part is not types.NoneType]
    return found


def _listed(value: Any) -> Any:
    if not isinstance(value, list):
        raise TypeError
    return value


def _kinds_of(kind: Any, length: int) -> list[Any]:
    """The kind of each entry of a list of this length."""
    parts = get_args(kind)
    return [parts[0]] * length if parts[-1] is Ellipsis else list(parts)


def _said(kind: Any) -> str:
    """What is asked for, in words."""
    if isinstance(kind, types.UnionType):
        return f"{_said(_not_null(kind))}, or null"
    if get_origin(kind) is not tuple:
        return ONE[kind]
    parts = get_args(kind)
    return f"a list of {MANY[parts[0]]}" if parts[-1] is Ellipsis else f"a list of {len(parts)} {MANY[parts[0]]}"


def _shown(value: Any) -> str:
    return repr(value)[:80]
