"""The reference of commands, made of what click knows: a page for each command, with all its options."""

import inspect
import re
from collections.abc import Iterator

import click

from docs.pages.writing import escaped
from tcs.cli import COMMANDS, SECTIONS, group

OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z0-9-]*[a-z0-9])(?![\w-])")
INDEX = """\
# Commands

`tcs COMMAND --help` shows the same in a terminal. Exit codes, and what to do about errors: [Errors](../errors.md). Every command is a
function too: [From Python](../python.md).

"""


def command_pages() -> dict[str, str]:
    """File name -> MyST text: `index.md`, and a page a command; those of `tcs cache` are on one page."""
    context = click.Context(group, info_name="tcs")
    listed = {heading: [name for name in names if name in COMMANDS] for heading, names in SECTIONS.items()}
    placed = {name for names in listed.values() for name in names}
    listed["Further commands"] = [name for name in COMMANDS if name not in placed]
    pages = {f"{name}.md": _page(context, name) for name in COMMANDS}
    return {"index.md": INDEX + "\n".join(_listed(listed))} | pages


def _listed(sections: dict[str, list[str]]) -> Iterator[str]:
    for heading, names in sections.items():
        if names:
            yield f"## {heading}\n"
            yield from (f"- [`tcs {name}`]({name}.md): {escaped(COMMANDS[name][1])}" for name in names)
            yield ""
    yield "```{toctree}\n:hidden:\n"
    yield from (name for names in sections.values() for name in names)
    yield "```"


def _page(parent: click.Context, name: str) -> str:
    command = group.get_command(parent, name)
    assert command is not None, f"{name} is in the table of commands"
    context = click.Context(command, info_name=name, parent=parent)
    if not isinstance(command, click.Group):
        return "\n".join([f"# {context.command_path}\n", *_described(context)])
    parts = [f"# {context.command_path}\n", _help(command)]
    for below in command.list_commands(context):
        found = command.get_command(context, below)
        assert found is not None, f"{name} lists {below}"
        inner = click.Context(found, info_name=below, parent=context)
        parts += [f"\n## {inner.command_path}\n", *_described(inner, level="###")]
    return "\n".join(parts)


def _described(context: click.Context, level: str = "##") -> Iterator[str]:
    """Usage, text, and the options under the headings that the help has."""
    usage = " ".join([context.command_path, *context.command.collect_usage_pieces(context)])
    yield f"```text\n{usage}\n```\n"
    yield _help(context.command)
    yield f"\n```{{program}} {context.command_path}\n```"
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and (record[1] or isinstance(parameter, click.Option)):  # arguments are in the usage
            groups.setdefault(getattr(parameter, "group", "Options"), []).append(record)
    for heading in sorted(groups, key=lambda heading: heading in ("Other", "Options")):
        if len(groups) > 1:
            yield f"\n{level} {escaped(heading)}{f' ({context.command.name})' * (level == '###')}"
        for names, text in groups[heading]:
            yield f"\n````{{option}} {names}\n{escaped(_options_as_code(text))}\n````"


def _help(command: click.Command) -> str:
    """Its paragraphs; click's marks for blocks that are not wrapped are taken off."""
    text = inspect.cleandoc(command.help or "").replace("\b\n", "").partition("\f")[0]
    return escaped(_options_as_code(text))


def _options_as_code(text: str) -> str:
    """Names of options in running text between backticks, unless they stand between some already."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else OPTION.sub(r"`\1`", part) for part in parts)
