"""`tcs methods`."""

import json
from typing import Any

import click


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(name: str | None, as_json: bool) -> None:
    """List the losses and the named methods of tcs train, or tell all about the one called NAME."""
    from tcs.catalogue import loss_facts, method_facts
    from tcs.errors import ConfigError, did_you_mean

    losses, methods = loss_facts(), method_facts()
    if name is not None:
        known = {fact["name"]: fact for fact in [*methods, *losses]}
        if name not in known:
            raise ConfigError(f"'{name}' is neither a loss nor a method.{did_you_mean(name, known)} See tcs methods.")
        click.echo(json.dumps(known[name]) if as_json else _page(known[name]))
    elif as_json:
        click.echo(json.dumps({"losses": losses, "methods": methods}))
    else:
        _print_tables(losses, methods)


def _page(fact: dict[str, Any]) -> str:
    return "\n".join(f"{key}\t{value}" for key, value in fact.items() if value not in ("", None))


def _cost(fact: dict[str, Any]) -> str:
    return "" if fact["cost_percent"] is None else f"{fact['cost_percent']:.1f} %"


def _print_tables(losses: list[dict[str, Any]], methods: list[dict[str, Any]]) -> None:
    """Two tables on a terminal, tab-separated lines elsewhere."""
    from rich.console import Console
    from rich.table import Table

    from tcs.catalogue import needs_in_words

    console = Console()
    tables = (
        ("method", ("about", "loss"), [(fact["name"], fact["about"], fact["loss"]) for fact in methods]),
        (
            "loss",
            ("needs", "trains", "weight", "cost", "source"),
            [
                (
                    fact["name"],
                    needs_in_words(fact["needs"]),
                    fact["trains"] or "-",
                    "" if fact["weight"] is None else f"{fact['weight']:g}",
                    _cost(fact),
                    fact["source"],
                )
                for fact in losses
            ],
        ),
    )
    for title, columns, rows in tables:
        if not console.is_terminal:
            click.echo("\n".join(["\t".join([title, *columns]), *("\t".join(row) for row in rows)]))
            continue
        table = Table(title, *columns)
        for row in rows:
            table.add_row(*row)
        console.print(table)
