"""`-c FILE.yaml`: options of a click command from a file, under those of the command line.

The values become click's `default_map`: click fills in what the command line leaves open, converts, and knows what was given
where. What it does not do stands here: it passes over unknown keys in silence, tells a wrong value as if it had been typed, has no
word for null, and does not look at values that the command line sets.

The file is read as text: a value is what one would type after the option, and click converts and refuses both alike. So 1e-3
is a number although YAML 1.1 calls it a text, 007 keeps its zeros, and 10.5 steps are refused instead of cut to 10.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click
from click.core import ParameterSource

from tcs.errors import did_you_mean

NULLS = f"{__name__}.nulls"  # where a context keeps those of `nullable` that the file sets to null
YAML_TAG = "tag:yaml.org,2002:"
MOST_BYTES = 16 << 20
PLAIN_TAGS = frozenset(YAML_TAG + kind for kind in ("str", "int", "float", "bool", "timestamp"))
NOT_FINITE = (".inf", ".nan")  # YAML's words, which Python reads without the dot


def config_file_option(*, nullable: tuple[str, ...] = ()) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the option `-c/--config FILE.yaml`, a mapping from option names to values.

    `nullable` are the options with a default that may have no value at all, which a file says as `null`. Anything wrong in
    the file is a usage error (exit code 2) of one line that names file, line and key.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @click.option(
            "-c",
            "--config",
            type=click.Path(exists=True, dir_okay=False),
            multiple=True,  # to see the second one, which click would take in silence
            is_eager=True,
            expose_value=False,
            callback=functools.partial(_fill_defaults, nullable),
            help="Options from a YAML file, as args.yaml of a run; those given here win. Paths start from here, too.",
        )
        @functools.wraps(command)
        def with_file(**options: Any) -> Any:
            return command(**options | _nulls(click.get_current_context()))

        return with_file

    return decorate


def _nulls(context: click.Context) -> dict[str, None]:
    """Options that the file sets to null and the command line does not set; releases of click differ in a null default."""
    names = context.meta.get(NULLS, ())
    return {name: None for name in names if context.get_parameter_source(name) is ParameterSource.DEFAULT}


def _fill_defaults(
    nullable: tuple[str, ...], context: click.Context, _option: click.Parameter, paths: tuple[str, ...]
) -> None:
    """Let the options of the file stand where the defaults stood. Click adds the usage line to what is raised in here."""
    if len(paths) > 1:
        raise click.UsageError(f"-c is given {len(paths)} times; give one file.")
    if not paths or context.resilient_parsing:
        return
    values: dict[str, Any] = {}
    parameters = _by_key(context)
    for place, key, node in _entries(paths[0]):
        parameter = _find(key, parameters, node, place)
        name = str(parameter.name)
        if name in values:
            raise click.UsageError(f"{place}: the option is given twice; give it once.")
        if node.tag == f"{YAML_TAG}null":
            _check_null(parameter, name in nullable, place)
            values[name] = None
        else:
            values[name] = _checked(_value(node, parameter, place), parameter, context, place)
    given = {name: value for name, value in values.items() if value is not None}
    context.default_map = {**(context.default_map or {}), **given}
    context.meta[NULLS] = tuple(name for name in nullable if name in values and name not in given)


def _by_key(context: click.Context) -> dict[str, click.Parameter]:
    """What a file may set, by each of its names: `model` and `models`, `store`."""
    table: dict[str, click.Parameter] = {}
    for parameter in context.command.get_params(context):
        if parameter.expose_value:  # not --help, and not -c itself
            options = [option.removeprefix("--") for option in parameter.opts if option.startswith("--")]
            table |= {option.replace("-", "_"): parameter for option in [*options, str(parameter.name)]}
    return table


def _entries(path: str) -> Iterator[tuple[str, str, Any]]:
    """(file, line and key in words; key; YAML node of the value) of each entry of the file."""
    import yaml

    from tcs.ordinary import read_ordinary

    try:
        root = yaml.compose(read_ordinary(path, MOST_BYTES), yaml.SafeLoader)
    except OSError as error:
        raise click.UsageError(f"{path} cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise click.UsageError(f"{path} is not YAML: {' '.join(str(error).split())[:200]}.") from error
    if not isinstance(root, yaml.MappingNode):
        raise click.UsageError(f"{path} must be a mapping from options to values, with lines such as lr: 0.1.")
    for key, value in root.value:
        text = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
        yield f"{path}, line {key.start_mark.line + 1}, '{text}'", text.replace("-", "_"), value


def _find(key: str, parameters: Mapping[str, click.Parameter], node: Any, place: str) -> click.Parameter:
    if node.id == "mapping":
        raise click.UsageError(f"{place}: options are not grouped; write each on a line of its own, as lr: 0.1.")
    if key in parameters:
        return parameters[key]
    positive = key.removeprefix("no_")
    if positive in parameters and parameters[positive].secondary_opts:
        raise click.UsageError(f"{place}: write {positive}: false.")
    raise click.UsageError(f"{place}: no such option.{did_you_mean(key, parameters)}")


def _check_null(parameter: click.Parameter, is_nullable: bool, place: str) -> None:
    """Refuse null where the option always has a value; where it has no default, null says what leaving it out says."""
    always = parameter.multiple or getattr(parameter, "is_flag", False)
    if not is_nullable and (always or isinstance(parameter.default, str | int | float | tuple | list)):
        raise click.UsageError(f"{place}: it cannot be null; give a value, or leave the line out.")


def _value(node: Any, parameter: click.Parameter, place: str) -> Any:
    """The value as one would type it: a text, or a list of them where the option takes several or can be repeated."""
    if not parameter.multiple:
        return _occurrence(node, parameter, place)
    return [_occurrence(entry, parameter, place) for entry in (node.value if node.id == "sequence" else [node])]


def _occurrence(node: Any, parameter: click.Parameter, place: str) -> Any:
    if parameter.nargs == 1:
        return _text(node, place)
    if node.id != "sequence":
        raise click.UsageError(f"{place}: it takes several values; write them as a list, [a, b].")
    return [_text(entry, place) for entry in node.value]


def _text(node: Any, place: str) -> str:
    if node.id != "scalar":
        raise click.UsageError(
            f"{place}: it takes one value, and this is a {'list' if node.id == 'sequence' else node.id}."
        )
    if node.tag not in PLAIN_TAGS:
        raise click.UsageError(f"{place}: '{node.value}' is no plain value; write a text or a number.")
    text = str(node.value)
    is_word = node.tag == f"{YAML_TAG}float" and text.lstrip("+-").lower() in NOT_FINITE
    return text.replace(".", "") if is_word else text


def _checked(value: Any, parameter: click.Parameter, context: click.Context, place: str) -> Any:
    """`value`, found convertible; click converts it in its turn, and only where the command line does not set it."""
    try:
        converted = parameter.type_cast_value(context, value)
        if parameter.callback is not None:
            parameter.callback(context, parameter, converted)
    except click.BadParameter as error:
        raise click.UsageError(f"{place}: {error.message}") from error
    return value
