"""What the options of a public function are told as: the words of its command's help, with the names and the forms of Python."""

import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

import click

from tcs.cli import group
from tcs.config.plain import AnyPath, kinds_of
from tcs.errors import either

FLAG = re.compile(r"--(?:no-)?([a-z][a-z0-9-]*)")
DEFAULT = re.compile(r"\s*\[default: (.*?)\]")
WITHOUT_WORDS = (None, (), "")  # defaults that the help tells in its own words, where it does
SEVERAL = {"MIN MAX": "(min, max)", "R G B": "(R, G, B)", "HxW": "(height, width)"}  # metavar -> value in Python

# What stands alone on the command line has no help of its own there (click before 8.4 knows none): its words are here.
ALONE: Mapping[str, str] = {
    "data": "The images: a folder, a .tar, a .csv or .parquet table, or a timm name such as torch/cifar10.",
    "store": "A feature store, as `tcs.extract` made it.",
    "coordinates": "What `tcs.fit` wrote; not with `from_targets`.",
    "recipe": "The recipe, a YAML file.",
    "run": "A run of `tcs.train`, or the folder of one of its students.",
    "model": "A student: a run, RUN/<student>, a folder that `tcs.export_students` wrote, or an .onnx file.",
    "paths": "Images, folders, .tar files, tables, or - for paths on stdin.",
    "stores": "Stores of the same images, one a teacher.",
    "source": "An .npy or .parquet file, or the folder of an export; not with `features`.",
}
# Where these or the help's are of another function: `tcs probe` is two.
OWN: Mapping[tuple[str, str], str] = {
    ("evaluate", "run"): "Students: a run, RUN/<student>, a folder that `tcs.export_students` wrote, or an .onnx file.",
    ("evaluate", "store"): "Labelled images: a store, or a folder, a .tar or a table as they lie.",
    (
        "measure_latency",
        "models",
    ): "Each a run (all its students), RUN/<student>, an exported folder, or an .onnx file.",
    ("recompute", "teacher"): "The recorded teacher, named by you: asked for where it is Python code.",
    ("update", "data"): "The images as they are now.  [default: as recorded]",
    ("probe", "store"): "Store that heads are fitted on.",
    ("probe", "test"): "Store to score on, of the same teacher.",
    ("probe", "readout"): "Readout of both stores; needed where they hold several. A map is averaged.",
    ("probe", "shots"): "Labelled rows a class.  [default: all labels]",
    ("compare_teachers", "tests"): "Stores to score on, in the order of `stores`.",
    (
        "compare_teachers",
        "readouts",
    ): "One for all stores, or one a store; needed where they hold several. A map is averaged.",
    ("compare_teachers", "shots"): "Labelled rows a class, of each part of the comparison.",
    ("compare_teachers", "device"): "Where scores are computed.",
}


def command_of(words: str) -> click.Command:
    """The command of these words, as `cache label`."""
    found: click.Command = group
    for word in words.split():
        assert isinstance(found, click.Group)
        below = found.get_command(click.Context(found), word)
        assert below is not None, f"there is no command {words}"
        found = below
    return found


def in_order(options: type, command: click.Command) -> list[dataclasses.Field[Any]]:
    """The fields of a dataclass of options: what is given by place, what cannot be left out, then as the command's help has them."""
    shown = [_option_of(command, field.name) for field in dataclasses.fields(options)]
    places = [len(command.params) if each is None else command.params.index(each) for each in shown]
    found = sorted(zip(dataclasses.fields(options), places, strict=True), key=lambda each: each[1])
    fields = [field for field, _ in found]
    return sorted(fields, key=lambda field: (field.kw_only, default_of(field) is not dataclasses.MISSING))


def told_options(function: str, command: click.Command, fields: Sequence[dataclasses.Field[Any]]) -> dict[str, str]:
    """option -> its type, words and default, for the options of a public function."""
    names = {text.lstrip("-"): name for name, text in _flags(command, {field.name for field in fields})}
    places = {
        str(each.metavar or each.name).rstrip(".").upper(): str(each.name)
        for each in command.params
        if isinstance(each, click.Argument) and each.name in {field.name for field in fields}
    }
    found = {}
    for field in fields:
        text, default = _help_of(function, command, field.name)
        text = in_python(_with_forms(command, field, text), names, places)
        if default_of(field) is not dataclasses.MISSING:
            text += f" Default: {_default(field, in_python(default, names, places))}."
        found[field.name] = f"({words_of(field.type)}): {text}"
    return found


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The default of a field; dataclasses.MISSING where it has none."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def words_of(kind: Any) -> str:
    """A type for people: path, tuple of str, (float, float), int or None."""
    kinds = kinds_of(kind)
    if len(kinds) > 1:
        return " or ".join(map(words_of, kinds))
    inner = get_args(kind)
    if get_origin(kind) is tuple:
        return (
            f"tuple of {words_of(inner[0])}{'s' * (inner[0] == AnyPath)}"
            if inner[-1] is ...
            else f"({', '.join(map(words_of, inner))})"
        )
    if get_origin(kind) is Mapping:
        return f"mapping of {words_of(inner[0])} to {words_of(inner[1])}"
    return "path" if kind == AnyPath else "None" if kind is type(None) else str(kind.__name__)


def in_python(text: str, names: Mapping[str, str], places: Mapping[str, str]) -> str:
    """Help of a command with options and arguments as Python spells them, and without what only a command line does."""
    text = FLAG.sub(lambda flag: f"`{names.get(flag[1], flag[1].replace('-', '_'))}`", text)
    text = re.sub(r"\bas (\d+(?:\.\d+)?) (\d+(?:\.\d+)?)", r"as (\1, \2)", text)
    for shown, name in ({"STORE": ""} | dict(places)).items():
        text = re.sub(rf"(?<![\w./]){shown}(?![\w/.]\w)", f"`{name}`" if name else "the store", text)
    return " ".join(text.split())


def _flags(command: click.Command, fields: Collection[str]) -> Iterator[tuple[str, str]]:
    """(option of Python, a way that the command line writes it)."""
    for each in command.params:
        if isinstance(each, click.Option):
            flags = [text for text in each.opts if text.startswith("--")]
            name = str(each.name) if each.name in fields else flags[-1].lstrip("-").replace("-", "_")
            yield from ((name, text) for text in flags)


def _help_of(function: str, command: click.Command, name: str) -> tuple[str, str]:
    """The help of an option, and what it calls its default, "" where it does not."""
    option = _option_of(command, name)
    text = OWN.get((function, name)) or getattr(option, "help", None) or ALONE.get(name, "")
    assert text, f"{function} has no words for its option '{name}'; give them to the command's help, or to ALONE"
    found = DEFAULT.search(text)
    text = re.sub(r"\s*Repeatable(;[^.]*)?\.", "", DEFAULT.sub("", text))
    text = re.sub(r"Repeatable[:,] (\w)", lambda more: more[1].upper(), text)
    return text.strip(), found[1] if found else ""


def _option_of(command: click.Command, name: str) -> click.Parameter | None:
    """The parameter of the command that becomes the field `name`."""
    flag = f"--{name.replace('_', '-')}"
    by_name = next((each for each in command.params if each.name == name), None)
    return by_name or next((each for each in command.params if flag in each.opts), None)


def _with_forms(command: click.Command, field: dataclasses.Field[Any], text: str) -> str:
    """Help with what values look like, where the command line writes them otherwise or has a list of them."""
    option = _option_of(command, field.name)
    metavar = str(getattr(option, "metavar", None) or "")
    if metavar in SEVERAL:
        return f"{text.rstrip('.')}, as {SEVERAL[metavar]}."
    if get_origin(field.type) is Mapping and "=" in metavar:
        told = re.sub(r"\bas (\w+)=(\d+)", r'as {"\1": \2}', text)
        return told if told != text else f"{text.rstrip('.')}, as {{{metavar.replace('=', ': ')}}}."
    choices = option.type.choices if option is not None and isinstance(option.type, click.Choice) else ()
    words = [str(choice) for choice in choices]
    return text if all(word in text for word in words) else f"{text.rstrip('.')}: {either(words)}."


def _default(field: dataclasses.Field[Any], told: str) -> str:
    """The default, in the words of the help where it has some."""
    value = default_of(field)
    return told if told and value in WITHOUT_WORDS else repr(value).replace("'", '"')
