"""How a public function of a stage is called: with its frozen configuration, or with the options of one. Pure standard library."""

import contextlib
import dataclasses
import functools
import inspect
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from tcs.config.plain import require_config
from tcs.errors import TcsError, did_you_mean, listed, shown

F = TypeVar("F", bound=Callable[..., Any])

# A whole command in a message, which is told as it is typed, or an option that stands outside of one.
COMMAND_OR_FLAG = re.compile(
    r"\btcs [a-z][^;,:)]*?(?= and |[;,:)]|(?<!\.)\.(?:\s|$)|$)|(?<![\w'/-])--(?P<no>no-)?(?P<flag>[a-z][a-z0-9-]*)"
)
# (function, option of its command) -> option of the function, where it is neither the same word nor its plural
OTHERWISE: Mapping[tuple[str, str], str] = {
    ("fit_targets", "from"): "from_targets",
    ("predict", "model"): "student",
    ("load_student", "model"): "name",
}


def takes(stage: Callable[..., Any], kind: type, options: type | None = None) -> Callable[[F], F]:
    """Decorate the declaration of a public function, to run `stage`, whose first argument is a configuration of the class `kind`.

    `function(kind(a, b=1))` and `function(a, b=1)` are the same. Where `kind` has configurations within, `options` is a dataclass with
    all options side by side and a method `config` that parts them. Only the first way has room for what a stage takes beside its
    configuration. The function raises TypeError for names that are no options (with the nearest that are), for options that are
    missing, and for a first argument that is neither; ConfigError for values that make no sense.
    Every TcsError names options as Python does.
    """
    flat: Any = options or kind
    signature = inspect.signature(flat)

    def decorate(declared: F) -> F:
        @functools.wraps(declared)
        def call(*given: Any, **named: Any) -> Any:
            if "config" in named and not given:
                given = (named.pop("config"),)
            name = f"tcs.{declared.__name__}"
            with errors_by_name(declared.__name__, signature.parameters):
                if given and _is_configuration(kind, given, named):
                    require_config(given[0], kind)
                    _refuse_beside(name, stage, given, named)
                    return stage(*given, **named)
                _refuse(name, signature, given, named, kind.__name__)
                built = flat(*given, **named)
                return stage(built if options is None else built.config())

        returned = inspect.signature(stage).return_annotation
        shown = sorted(signature.parameters.values(), key=lambda each: (each.kind, each.default is not each.empty))
        call.__signature__ = signature.replace(parameters=shown, return_annotation=returned)  # type: ignore[attr-defined]
        call.__wrapped__ = stage
        return call  # type: ignore[return-value]

    return decorate


@contextlib.contextmanager
def errors_by_name(function: str, options: Collection[str]) -> Iterator[None]:
    """Let a TcsError name the `options` of a public function as Python does: `img_size` where the command line has `--img-size`.

    It is the same error, with the same traceback, in other words.
    """
    try:
        yield
    except TcsError as error:
        if len(error.args) == 1 and isinstance(
            error.args[0], str
        ):  # not an error of the system, which makes its words itself
            error.args = (in_python(error.args[0], function, options),)
        raise


def in_python(message: str, function: str, options: Collection[str]) -> str:
    """`message` with the options of `function` by their names in Python; whole commands and options of others stay as they are."""

    def named(found: re.Match[str]) -> str:
        flag = found["flag"]
        if flag is None:
            return found[0]
        word = flag.replace("-", "_")
        names = (OTHERWISE.get((function, flag), word), f"{word}s")
        name = next((each for each in names if each in options), None)
        return found[0] if name is None else f"{name}=False" if found["no"] else name

    return COMMAND_OR_FLAG.sub(named, message)


def _is_configuration(kind: type, given: Sequence[Any], named: Mapping[str, Any]) -> bool:
    """Whether what is given first is meant as a configuration: it is one of any kind, or is alone and no path and no list of them."""
    is_any = isinstance(given[0], kind) or type(given[0]).__module__.startswith("tcs.config.")
    is_alone = len(given) == 1 and not named
    return is_any or (is_alone and not isinstance(given[0], str | os.PathLike | list | tuple))


def _refuse_beside(name: str, stage: Callable[..., Any], given: Sequence[Any], named: Mapping[str, Any]) -> None:
    """TypeError for options that are given beside a configuration; `stage` has names for all else that may stand there."""
    _, *beside = inspect.signature(stage).parameters
    room = f"{name} takes {f'only {listed(beside)}' if beside else 'nothing'} beside a configuration"
    other = next((option for option in named if option not in beside), None)
    if other is not None:
        known = [field.name for field in dataclasses.fields(given[0])]
        remedy = (
            f"dataclasses.replace(config, {other}=...) changes an option."
            if other in known
            else f"no option has that name.{did_you_mean(other, known)}"
        )
        raise TypeError(f"{room}, and is given '{other}'; {remedy}")
    if len(given) > 1 + len(beside):
        raise TypeError(f"{room}, and is given {len(given) - 1} by place; leave out what is no configuration.")


def _refuse(name: str, signature: inspect.Signature, given: Sequence[Any], named: Mapping[str, Any], kind: str) -> None:
    """TypeError for options that `signature` does not have, has twice or lacks; dataclasses name neither stage nor remedy."""
    options = signature.parameters
    unknown = next((option for option in named if option not in options), None)
    if unknown is not None:
        raise TypeError(f"{name} has no option '{unknown}'.{did_you_mean(unknown, options)} help({name}) lists them.")
    first = [option for option, each in options.items() if each.kind is each.POSITIONAL_OR_KEYWORD]
    if len(given) > len(first):
        raise TypeError(
            f"{name} takes {listed(first)} by place and all other options by name; {len(given)} are given: write "
            f"{_named(options, given[len(first)], named)}."
        )
    twice = next((option for option in first[: len(given)] if option in named), None)
    if twice is not None:
        raise TypeError(f"{name} is given '{twice}' twice, by place and by name; leave one of them out.")
    set_already = {*first[: len(given)], *named}
    missing = [option for option, each in options.items() if each.default is each.empty and option not in set_already]
    if missing:
        them = "it" if len(missing) == 1 else "them"
        raise TypeError(f"{name} needs {listed(missing)} too; give {them} by name, or a tcs.{kind} that has {them}.")


def _named(options: Mapping[str, inspect.Parameter], value: object, named: Mapping[str, Any]) -> str:
    """What is one too many by place, by the name of an option that is still needed, or of further stores."""
    required = [each.name for each in options.values() if each.kind is each.KEYWORD_ONLY and each.default is each.empty]
    needed = next((option for option in required if option not in named), None)
    text = shown(repr(value))
    return f"{needed}={text}" if needed else f"also=[{text}]" if "also" in options else f"NAME={text}"
