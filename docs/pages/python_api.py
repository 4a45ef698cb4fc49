"""The reference of Python, made of the public names: functions and classes by their docstrings, configurations as tables."""

import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import click

import cache
import tcs
from docs.pages.signatures import shorter
from docs.pages.writing import escaped
from tcs import functional
from tcs.cli import COMMANDS, group
from tcs.cli.cache import SUBCOMMANDS

INDEX = """\
# Python API

The guide, with examples: [From Python](../python.md). These pages are made of the docstrings; `help(tcs.train)` shows the same.

```{toctree}
:maxdepth: 1

tcs
configurations
cache
functional
```
"""

PAGES = {
    "tcs": """\
# tcs

A function a command, in the order of the chain, and what functions return. What they take: [Configurations](configurations.md).

`AnyPath` is a text or any `os.PathLike`, as `pathlib.Path`; `Several[...]` is a tuple or a list. Where `...` is a default, it is an empty
mapping.
""",
    "cache": """\
# cache

The feature store. The guide: [Stores](../../how-to/store.md); the bytes on disk: [Store format](../store-format.md).
""",
    "functional": """\
# tcs.functional

The losses as pure functions of tensors. What each is, where it comes from and what a cache changes: [Losses and methods](../methods.md).
""",
}


def api_pages() -> dict[str, str]:
    """File name -> MyST text."""
    names = [name for name in tcs.MODULE_OF if not name.endswith("Config")]
    described = {"tcs": names, "cache": cache.__all__, "functional": functional.__all__}
    modules: Mapping[str, Any] = {"tcs": tcs, "cache": cache, "functional": functional}
    pages = {name: "\n".join([PAGES[name], *_members(modules[name], described[name])]) for name in PAGES}
    pages |= {"index": INDEX, "configurations": "\n".join(_configurations())}
    return {f"{name}.md": text for name, text in pages.items()}


def _members(module: Any, names: Iterable[str]) -> Iterator[str]:
    """A heading and a directive of autodoc for each public name: errors last, constants by their value."""
    for name in sorted(names, key=lambda name: _is_error(getattr(module, name))):
        value = getattr(module, name)
        if inspect.ismodule(value):
            yield f"\n## {name}\n\n```{{eval-rst}}\n.. automodule:: {value.__name__}\n   :members:\n```"
        elif inspect.isclass(value):
            yield f"\n## {name}\n\n```{{eval-rst}}\n.. autoclass:: {module.__name__}.{name}\n   :members:\n```"
        elif callable(value):
            taken = re.search(r"tcs\.(\w+Config)\b", inspect.getdoc(value) or "")
            options = f"[What each option does](configurations.md#{taken[1].lower()}).\n\n" if taken else ""
            yield f"\n## {name}\n\n{options}```{{eval-rst}}\n.. autofunction:: {module.__name__}.{name}\n```"
        else:
            yield f"\n## {name}\n\n`{value!r}`"


def _is_error(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, Exception)


def _configurations() -> Iterator[str]:
    """A table of the options of each configuration, with the words of the command line where it has the option."""
    yield "# Configurations\n"
    yield "Frozen, keyword-only and checked when they are built; an option is that of the command with `-` written `_`.\n"
    helps = _help_of_options()
    for name in (name for name in tcs.MODULE_OF if name.endswith("Config")):
        kind = getattr(tcs, name)
        yield f"\n## {name}\n"
        yield escaped(inspect.getdoc(kind) or "") + "\n"
        yield "| option | type, default | |\n|---|---|---|"
        for field in dataclasses.fields(kind):
            told = helps.get((name, field.name), "")
            yield f"| `{field.name}` | {_code(_type_of(field) + _default(field))} | {escaped(told)} |"


def _type_of(field: dataclasses.Field[Any]) -> str:
    written = field.type.__name__ if isinstance(field.type, type) else str(field.type).replace("tcs.config.", "")
    return shorter(written)


def _default(field: dataclasses.Field[Any]) -> str:
    """` = value`; of a configuration that is made anew its name alone."""
    if field.default is not dataclasses.MISSING:
        return shorter(f" = {field.default!r}")
    if field.default_factory is dataclasses.MISSING:
        return ""
    return " = " + re.sub(r"\(.*", "()", repr(field.default_factory()))


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


def _help_of_options() -> dict[tuple[str, str], str]:
    """(configuration, option) -> the words of the command whose module builds that configuration."""
    found: dict[tuple[str, str], str] = {}
    context = click.Context(group, info_name="tcs")
    for module_name, _ in [*COMMANDS.values(), *SUBCOMMANDS.values()]:
        module = importlib.import_module(module_name)
        for name in (name for name in vars(module) if name.endswith("Config")):
            for parameter in module.command.get_params(context):
                if isinstance(parameter, click.Option) and parameter.name and parameter.help:
                    found.setdefault((name, parameter.name), parameter.help)
    return found
