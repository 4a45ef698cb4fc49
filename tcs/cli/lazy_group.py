"""A click group that knows its commands from a table, name -> (module, one line of help), and the headings to list them under."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import click

from tcs.cli.extra_arguments import with_remedy
from tcs.errors import did_you_mean


class LazyGroup(click.Group):
    """Imports a command's module when the command is looked up, and takes `command` of it; listing imports none."""

    def __init__(
        self,
        *args: Any,
        table: Mapping[str, tuple[str, str]],
        sections: Mapping[str, Sequence[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        """As click's group, with the table of its commands. `sections` are headings with names of commands, listed where the table
        has them; what no section names comes last."""
        super().__init__(*args, **kwargs)
        self._table = table
        self._sections = sections or {}

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """The command names, in the order of the sections, then of the table."""
        return [name for names in self._listed().values() for name in names]

    def _listed(self) -> dict[str, list[str]]:
        """Heading -> the commands below it; no heading without a command."""
        found = {heading: [name for name in names if name in self._table] for heading, names in self._sections.items()}
        placed = {name for names in found.values() for name in names}
        found["Commands"] = [name for name in self._table if name not in placed]
        return {heading: names for heading, names in found.items() if names}

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, its module imported now; None where there is no such command."""
        if cmd_name not in self._table:
            return None
        command: click.Command = importlib.import_module(self._table[cmd_name][0]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name, command and the other arguments; a usage error with the nearest names where there is no such command."""
        if args[0] not in self._table and not args[0].startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"No such command '{args[0]}'.{did_you_mean(args[0], self._table)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """As click's group; an error of usage has its remedy in its line."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise with_remedy(error) from None

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table alone, their texts one below the other in all sections."""
        width = max(map(len, self._table))
        for heading, names in self._listed().items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), self._table[name][1]) for name in names])
