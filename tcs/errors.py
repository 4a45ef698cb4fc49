"""Errors a user can cause. Each message is one line: the value, the rule, the remedy."""

import dataclasses
import difflib
from collections.abc import Iterable, Sequence
from typing import Any


class TcsError(Exception):
    """Base of every error that the command line prints as one line (exit code 1)."""


class DataError(TcsError):
    """Images or labels that cannot be used as asked."""


class ModelError(TcsError):
    """A teacher or student that cannot be built, loaded or folded."""


class ArtefactError(TcsError):
    """A store, coordinate system, targets or run file that is missing, foreign or of another identity."""


class NotOrdinaryError(ArtefactError, OSError):
    """A pipe, a device or a socket where a file is read. As an OSError it is told by every reader in its own line."""

    REASON = "it is a pipe, a device or a socket, and must be an ordinary file"

    def __str__(self) -> str:
        return f"{self.filename} {self.REASON.removeprefix('it ')}."


class ConfigError(TcsError):
    """An option, or a combination of options, that makes no sense."""


class DivergedError(TcsError):
    """A loss that is no longer finite."""


class ResourceError(TcsError):
    """Memory of the machine or of a device that ran out."""


class RankError(TcsError):
    """Another of the processes that torchrun started has failed, or cannot be reached."""


class ShadowedError(TcsError, ImportError):
    """Another module of the name `cache` stands before ours on Python's path."""


def option_name(field: str) -> str:
    """How the command line calls the field of a configuration: `--split-file` for split_file."""
    return f"--{field.replace('_', '-')}"


def shown(value: object, most: int = 40) -> str:
    """A value that was read from a file, for a message of one line: its first letters, control characters as escapes."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in str(value)[:most]
    )


def listed(names: Iterable[object], most: int | None = None) -> str:
    """`a, b, c` for a message; of more than `most` the first ones `and N more`, and `none` where there is nothing."""
    texts = [str(name) for name in names]
    shown = texts if most is None else texts[:most]
    more = f" and {len(texts) - len(shown)} more" if len(texts) > len(shown) else ""
    return (", ".join(shown) or "none") + more


def number_of(count: int, noun: str) -> str:
    """`1 image`, `2,000 images` for a message."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def either(names: Sequence[str]) -> str:
    """`a, b or c` for a message."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


# What other tools call an option -> our name of it: too far apart for likeness of letters.
OTHER_NAMES = {
    "learning_rate": "lr",
    "optimizer": "opt",
    "scheduler": "sched",
    "lr_scheduler": "sched",
    "image_size": "img_size",
    "input_size": "img_size",
    "output_dir": "out",
}


def meant_by(option: str, choices: Iterable[str]) -> str | None:
    """The one of `choices` that other tools call `option`, each as Python or as the command line spells it; None where there is none."""
    ours = OTHER_NAMES.get(option.lstrip("-").replace("-", "_").lower(), "")
    return next((choice for choice in choices if ours and choice.lstrip("-").replace("-", "_") == ours), None)


def did_you_mean(value: str, choices: Iterable[str]) -> str:
    """Return `` Did you mean a, b or c?`` for the choices nearest to `value`, or an empty string."""
    choices = list(choices)
    meant = meant_by(value, choices)
    near = [meant] if meant else difflib.get_close_matches(value, choices, n=3, cutoff=0.5)
    return f" Did you mean {either(near)}?" if near else ""


def require(condition: bool, message: str) -> None:
    """Raise ConfigError with `message` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


def require_choice(value: str, choices: tuple[str, ...], option: str) -> None:
    """Raise ConfigError, naming the nearest choices, unless `value` is one of `choices`."""
    require(
        value in choices,
        f"{option} is '{value}'; it must be one of {', '.join(choices)}.{did_you_mean(value, choices)}",
    )


def refuse_idle(config: Any, conditions: Iterable[tuple[tuple[str, ...], bool, str]]) -> None:
    """Raise ConfigError for a field of the dataclass `config` that is not at its default where it would change nothing.

    `conditions` are (fields, whether they have an effect, what they need in words).
    """
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    for names, has_effect, need in conditions:
        for name in names:
            is_idle = not has_effect and getattr(config, name) != defaults[name]
            require(not is_idle, f"{option_name(name)} has no effect without {need}.")


def first_line(error: BaseException) -> str:
    """The first line of an error's text, shortened, for use inside a message of ours."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
