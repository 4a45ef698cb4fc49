"""How a public function of a stage is called: with its frozen configuration, or with the options of one. Pure standard library."""

import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from tcs.config.plain import require_config
from tcs.errors import did_you_mean, listed, shown

F = TypeVar("F", bound=Callable[..., Any])


def takes(stage: Callable[..., Any], kind: type, options: type | None = None) -> Callable[[F], F]:
    """Decorate the declaration of a public function, to run `stage`, whose first argument is a configuration of the class `kind`.

    `function(kind(a, b=1))` and `function(a, b=1)` are the same. Where `kind` has configurations within, `options` is a dataclass with
    all options side by side and a method `config` that parts them. Only the first way has room for what a stage takes beside its
    configuration. The function raises TypeError for names that are no options (with the nearest that are), for options that are
    missing, and for a first argument that is neither; ConfigError for values that make no sense.
    """
    flat: Any = options or kind
    signature = inspect.signature(flat)

    def decorate(declared: F) -> F:
        @functools.wraps(declared)
        def call(*given: Any, **named: Any) -> Any:
            if "config" in named and not given:
                given = (named.pop("config"),)
            name = f"tcs.{declared.__name__}"
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
        raise TypeError(f"{room}, and is given '{other}'; dataclasses.replace(config, {other}=...) changes an option.")
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
