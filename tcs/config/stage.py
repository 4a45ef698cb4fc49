"""How a stage is called from Python: with its frozen configuration, or with the options of one. Pure standard library."""

import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from tcs.config.plain import require_config
from tcs.errors import did_you_mean, listed

P = ParamSpec("P")  # the options of a configuration
Q = ParamSpec("Q")  # what a stage takes beside its configuration
C = TypeVar("C")
C_in = TypeVar("C_in", contravariant=True)
C_out = TypeVar("C_out", covariant=True)
R_out = TypeVar("R_out", covariant=True)


class Stage(Protocol[C_in, P, Q, R_out]):
    """A stage as type checkers see it: both ways to call it, each with the names and types of its options."""

    @overload
    def __call__(self, config: C_in, /, *args: Q.args, **kwargs: Q.kwargs) -> R_out: ...

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_out: ...


class Options(Protocol[C_out]):
    """Options that stand side by side, and are parted to make a configuration."""

    def config(self) -> C_out:
        """The configuration of these options."""


@overload
def takes(kind: Callable[P, C]) -> Callable[[Callable[Concatenate[C, Q], R_out]], Stage[C, P, Q, R_out]]: ...


@overload
def takes(
    kind: type[C], options: Callable[P, Options[C]]
) -> Callable[[Callable[Concatenate[C, Q], R_out]], Stage[C, P, Q, R_out]]: ...


def takes(kind: Any, options: Any = None) -> Any:
    """Decorate a stage, whose first argument is a configuration of the class `kind`, to take the options of one as well.

    `stage(kind(a, b=1))` and `stage(a, b=1)` are the same. Where `kind` has configurations within, `options` is a dataclass with
    all options side by side and a method `config` that parts them. Only the first way has room for what a stage takes beside its
    configuration. The stage raises TypeError for names that are no options (with the nearest that are), for options that are
    missing, and for a first argument that is neither; ConfigError for values that make no sense.
    """
    flat = options or kind
    signature = inspect.signature(flat)

    def decorate(stage: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(stage)
        def call(*given: Any, **named: Any) -> Any:
            if "config" in named and not given:
                given = (named.pop("config"),)
            if given and not isinstance(given[0], str | os.PathLike | list | tuple):
                require_config(given[0], kind)
                return stage(*given, **named)
            _refuse(f"tcs.{stage.__name__}", signature, given, named, kind.__name__)
            built = flat(*given, **named)
            return stage(built if options is None else built.config())

        returned = inspect.signature(stage).return_annotation
        call.__signature__ = signature.replace(return_annotation=returned)  # type: ignore[attr-defined]
        call.__doc__ = _told(stage, kind)
        return call

    return decorate


def _refuse(name: str, signature: inspect.Signature, given: Sequence[Any], named: Mapping[str, Any], kind: str) -> None:
    """TypeError for options that `signature` does not have, has twice or lacks; dataclasses name neither stage nor remedy."""
    options = signature.parameters
    unknown = next((option for option in named if option not in options), None)
    if unknown is not None:
        raise TypeError(f"{name} has no option '{unknown}'.{did_you_mean(unknown, options)} help({name}) lists them.")
    first = [option for option, each in options.items() if each.kind is each.POSITIONAL_OR_KEYWORD]
    if len(given) > len(first):
        raise TypeError(f"{name} takes {listed(first)} by place and all other options by name; {len(given)} are given.")
    twice = next((option for option in first[: len(given)] if option in named), None)
    if twice is not None:
        raise TypeError(f"{name} is given '{twice}' twice, by place and by name; leave one of them out.")
    set_already = {*first[: len(given)], *named}
    missing = [option for option, each in options.items() if each.default is each.empty and option not in set_already]
    if missing:
        raise TypeError(f"{name} needs {listed(missing)} too; give them by name, or a tcs.{kind} that has them.")


def _told(stage: Callable[..., Any], kind: type) -> str:
    """The docstring of a stage with what both ways to call it have in common; names what only a configuration has room for."""
    _, *beside = inspect.signature(stage).parameters
    room = f"After a configuration, and only there, it takes {listed(beside)} too.\n" if beside else ""
    return (
        f"{inspect.getdoc(stage)}\n\nTakes the options above, which are those of tcs.{kind.__name__}, or one such configuration as "
        f"{'its first' if beside else 'its only'} argument.\n{room}What each option does is told by the --help of the command."
    )
