"""`tcs cache info`. Loads neither torch nor a teacher."""

import json
from collections.abc import Mapping
from typing import Any

import click

LISTED = 10


@click.command(name="info")
@click.argument("store", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(store: str, as_json: bool) -> None:
    """Show what STORE holds and where it comes from."""
    found = facts(store)
    if as_json:
        click.echo(json.dumps(found))
    else:
        _print_table(found)


def facts(path: str) -> dict[str, Any]:
    """What a closed store holds, as JSON types. Raises CacheError where it cannot be opened."""
    import cache

    store = cache.open(path)
    manifest = store.manifest
    views = manifest.plan.views
    return {
        "store": str(store.path),
        "identity": store.identity,
        "rows": len(store),
        "labelled": int((store.labels_N >= 0).sum()),
        "classes": list(store.classes),
        "readouts": {
            name: {"dims": item.dims, "dtype": item.dtype, "grid": None if item.grid is None else list(item.grid)}
            for name, item in store.readouts.items()
        },
        "views": None if views is None else {"count": views.count, "parameters": list(views.parameters)},
        "constants": {name: list(item.shape) for name, item in manifest.plan.constants.items()},
        "images": manifest.plan.images,
        "shards": len(manifest.shards),
        "bytes": sum(entry.bytes for entry in manifest.shards),
        "made_from": dict(manifest.plan.identity),
        "gate": manifest.gate,
        "quarantine": [{"key": entry.key, "reason": entry.reason} for entry in manifest.quarantine],
        "provenance": dict(manifest.provenance),
    }


def tell(path: str, as_json: bool) -> None:
    """Say what a command has written: the facts as JSON on stdout, or one line on stderr."""
    from tcs.runtime import say

    found = facts(path)
    if as_json:
        click.echo(json.dumps(found))
    say(f"{path}: {found['rows']:,} rows, {len(found['classes'])} classes, identity {found['identity']}.")


def _lines(found: Mapping[str, Any]) -> dict[str, str]:
    """The facts in a few words each, in reading order."""
    lines = {
        "store": found["store"],
        "identity": found["identity"],
        "rows": f"{found['rows']:,} in {found['shards']} shards, {found['bytes'] / 1e6:,.1f} MB",
        "classes": f"{len(found['classes'])} ({found['labelled']:,} rows labelled): {_some(found['classes'])}",
        "readouts": ", ".join(_readout(name, item, found["views"]) for name, item in found["readouts"].items()),
        "images": found["images"],
    }
    lines |= {name.replace("_", " "): _plain(value) for name, value in found["made_from"].items()}
    lines |= {f"gate {name}": _plain(result) for name, result in (found["gate"] or {"": "not run"}).items()}
    bad = [f"{entry['key']} ({entry['reason']})" for entry in found["quarantine"]]
    return lines | {"quarantine": f"{len(bad)}: {_some(bad)}" if bad else "none"}


def _readout(name: str, item: Mapping[str, Any], views: Mapping[str, Any] | None) -> str:
    shape = [*([] if views is None else [views["count"]]), *(item["grid"] or ()), item["dims"]]
    return f"{name} ({' x '.join(map(str, shape))} x {item['dtype']})"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {item}" for name, item in value.items()) or "none"
    return str(value)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return (", ".join(names[:LISTED]) or "none") + more


def _print_table(found: Mapping[str, Any]) -> None:
    """A table on a terminal, `name<TAB>value` lines elsewhere."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        click.echo("\n".join(f"{name}\t{text}" for name, text in _lines(found).items()))
        return
    table = Table(show_header=False)
    for name, text in _lines(found).items():
        table.add_row(name, Text(text))  # as it is: a key may hold what rich takes for markup
    console.print(table)
