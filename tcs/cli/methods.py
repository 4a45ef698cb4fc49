"""`tcs methods`."""

import json
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import click

from tcs.cli.completion import complete_fact

LABEL_WIDTH = 18
NARROWEST = 40


@click.command()
@click.argument("name", required=False, shell_complete=complete_fact)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(name: str | None, as_json: bool) -> None:
    """List the losses and the named methods of tcs train, and what else there is, or tell all about the one called NAME.

    On a terminal the lists are tables, elsewhere lines with tabs between their fields. docs/reference/methods.md says more of each.
    """
    from tcs.methods.catalogue import cost_facts, loss_facts, method_facts, other_facts

    lists = {"losses": loss_facts(), "methods": method_facts(), "others": other_facts()}
    if name is not None:
        kind, fact = _find(name, lists)
        click.echo(json.dumps(fact) if as_json else _page(kind, fact))
    elif as_json:
        click.echo(json.dumps(lists | {"cost": cost_facts()}))
    else:
        _print_lists(**lists)


def _find(name: str, lists: Mapping[str, list[dict[str, Any]]]) -> tuple[str, dict[str, Any]]:
    """The list in which `name` stands, and what it says there."""
    from tcs.errors import ConfigError, did_you_mean

    known = {fact["name"]: (kind, fact) for kind, facts in lists.items() for fact in facts}
    if name not in known:
        raise ConfigError(f"'{name}' is neither a loss nor a method.{did_you_mean(name, known)} See tcs methods.")
    return known[name]


def _page(kind: str, fact: dict[str, Any]) -> str:
    """Labels on the left, texts wrapped on the right; as wide as the terminal, 120 columns at most."""
    from tcs.methods.catalogue import loss_page, method_page, other_page

    page = {"losses": loss_page, "methods": method_page, "others": other_page}[kind]
    width = max(NARROWEST, min(120, shutil.get_terminal_size().columns))
    lines = []
    for label, text in page(fact):
        start = f"{label:{LABEL_WIDTH}}" if len(label) < LABEL_WIDTH else f"{label}  "
        lines.append(
            textwrap.fill(
                text,
                width,
                initial_indent=start,
                subsequent_indent=" " * LABEL_WIDTH,
                break_long_words=False,
                break_on_hyphens=False,
            )
        )
    return "\n".join(lines)


def _print_lists(losses: list[dict[str, Any]], methods: list[dict[str, Any]], others: list[dict[str, Any]]) -> None:
    """Named methods, losses, the rest: tables on a terminal, tab-separated lines elsewhere."""
    _print_list("method", ("loss", "about"), [(fact["name"], fact["loss"], fact["about"]) for fact in methods])
    measured = any(fact["cost_percent"] is not None for fact in losses)
    columns = ("reads", "trains", "factor", *(("cost",) if measured else ()), "source")
    _print_list("loss", columns, [_loss_row(fact, measured) for fact in losses])
    _print_list("beside", ("source", "about"), [(fact["name"], fact["source"], fact["about"]) for fact in others])


def _loss_row(fact: dict[str, Any], measured: bool) -> tuple[str, ...]:
    factor = "" if fact["weight"] is None else f"{fact['weight']:g}"
    cost = "" if fact["cost_percent"] is None else f"{fact['cost_percent']:.1f} %"
    reads, trains = ", ".join(fact["needs"]), fact["trains"] or "-"
    return (fact["name"], reads, trains, factor, *((cost,) if measured else ()), fact["source"])


def _print_list(title: str, columns: Sequence[str], rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        click.echo("\n".join("\t".join(row) for row in [(title, *columns), *rows]))
        return
    table = Table(box=None, pad_edge=False)
    table.add_column(title, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right" if column in ("factor", "cost") else "left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # as it is: nothing in a cell is markup
    console.print(table)
