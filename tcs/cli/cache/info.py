"""`tcs cache info`. Loads neither torch nor a teacher."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import click

from tcs.errors import listed, number_of

LISTED = 10
Stamp = tuple[int, int] | None


@click.command(name="info")
@click.argument("store", type=click.Path())
@click.option("--classes", "every_class", is_flag=True, help="Tell the rows of every class, the largest first.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(store: str, every_class: bool, as_json: bool) -> None:
    """Show what STORE holds and where it comes from; of a store that is still being written, how far it is.

    Sizes, formats and suspicious images (of one colour, tiny, or very long) are those that the extraction has counted.
    """
    from tcs.maintenance.facts import store_facts

    found = store_facts(store)
    if as_json:
        click.echo(json.dumps(found))
    else:
        _print_table(lines(found) | (class_lines(found) if every_class else {}))


def stamp(out: str) -> Stamp:
    """What changes whenever a command has written something at `out`: inode and time of the file it writes last."""
    folder = pathlib.Path(out)
    for path in (folder / "manifest.json", folder / "store.json", folder):
        if path.is_file():
            status = path.stat()
            return status.st_ino, status.st_mtime_ns
    return None


def say_if_finished(out: str, before: Stamp) -> None:
    """Say so where a command found nothing to do: `stamp(out)` is what it was before."""
    from tcs.runtime import say

    if before is not None and stamp(out) == before:
        say(f"{out} is finished already; nothing to do (--overwrite makes it anew).")


def tell(path: str, as_json: bool, before: Stamp) -> None:
    """Say what a command has written, or that it had nothing to do: a line on stderr, and on stdout the facts as JSON."""
    from tcs.maintenance.facts import store_facts
    from tcs.runtime import say

    say_if_finished(path, before)
    found = store_facts(path)
    if as_json:
        click.echo(json.dumps(found))
    say(f"{path}: {found['rows']:,} rows, {len(found['classes'])} classes, identity {found['identity']}.")


def class_lines(found: Mapping[str, Any]) -> dict[str, str]:
    """The rows of every class, the largest first."""
    ranked = sorted(found["rows_of_class"].items(), key=lambda item: (-item[1], item[0]))
    return {f"class {name}": f"{rows:,}" for name, rows in ranked}


def lines(found: Mapping[str, Any]) -> dict[str, str]:
    """The facts in a few words each, in reading order."""
    from tcs.store_summary import by_reason, image_lines

    told = {
        "store": f"{found['store']}{' (packed)' if found['packed'] else ''}, format version {found['format_version']}",
        "state": _state(found),
        "identity": found["identity"] or "none before it is closed",
        "rows": _rows(found),
        "classes": _classes(found),
        "readouts": ", ".join(_readout(name, item) for name, item in found["readouts"].items()),
        "images": found["images"],
        "size": _size(found),
        **image_lines(found),
    }
    parent = found["provenance"].get("parent")
    if isinstance(parent, Mapping) and type(parent.get("rows")) is int:
        told["update of"] = f"a store of {parent['rows']:,} rows: {_changes(parent)}"
    if found["labelled_later"]:
        told["labelled later"] = listed(_given(entry) for entry in found["labelled_later"])
    if found["views"] is not None:
        told["augmented views"] = f"{found['views']['count']}, each with {', '.join(found['views']['parameters'])}"
    if found["constants"]:
        told["constants"] = ", ".join(f"{name} {_times(shape)}" for name, shape in found["constants"].items())
    made_from = {name.replace("_", " "): _plain(name, value) for name, value in found["made_from"].items()}
    told |= {name: text for name, text in made_from.items() if name not in told}
    teacher = found["provenance"].get("teacher")
    if isinstance(teacher, Mapping) and "licence" in teacher:
        told["licence"] = f"{teacher['licence']} (of the teacher's weights)"
    told |= {f"gate {name}": _plain(name, result) for name, result in (found["gate"] or {}).items()} or {
        "gate": "not run"
    }
    bad = [f"{entry['key']} ({entry['reason']})" for entry in found["quarantine"]]
    so_far = "" if found["state"] == "closed" else " so far"
    told["quarantine"] = f"{len(bad)}{so_far}: {listed(bad, LISTED)}" if bad else f"none{so_far}"
    return told | ({"quarantine by reason": by_reason(found["quarantine"])} if len(bad) > 1 else {})


def _state(found: Mapping[str, Any]) -> str:
    if found["state"] == "closed":
        return "closed"
    return f"open: {found['shards_written']} of {found['shards']} shards are written; rerun the command that began it"


def _rows(found: Mapping[str, Any]) -> str:
    if found["rows"] is None:
        return f"{found['inputs']:,} inputs planned"
    return f"{found['rows']:,} in {number_of(found['shards'], 'shard')}; {found['unlabelled']:,} without a label"


def _classes(found: Mapping[str, Any]) -> str:
    """The number of classes, how many rows they have, and their names, with the rows of each where they differ."""
    least, median, most = (found["rows_per_class"][name] for name in ("min", "median", "max"))
    spread = f"{least:,}" if least == most else f"{least:,} to {most:,}, median {median:,g}"
    count = len(found["classes"])
    named = found["classes"] if least == most else [f"{name} {rows:,}" for name, rows in found["rows_of_class"].items()]
    if count > LISTED and least < most:
        from tcs.store_summary import class_ends

        return f"{count} ({spread} rows each): {class_ends(found['rows_of_class'])} (--classes tells all)"
    return f"{count} ({spread} rows each): {listed(named, LISTED)}" if count else "none"


def _given(entry: Mapping[str, Any]) -> str:
    """One time that labels were given, in words."""
    file = f" from {entry['file']}" if "file" in entry else ""
    return f"{entry['added']:,} added and {entry['changed']:,} changed{file}"


def _changes(parent: Mapping[str, Any]) -> str:
    """What an update has changed, in words."""
    kinds = ("added", "changed", "moved", "mended", "gone", "relabelled")
    counts = {name: parent[name] for name in kinds if type(parent.get(name)) is int and parent[name]}
    return f"{listed(f'{count:,} {name}' for name, count in counts.items())}; it was {parent.get('identity')}"


def _readout(name: str, item: Mapping[str, Any]) -> str:
    return f"{name} ({_times([*item['shape'], item['dtype']])})"


def _size(found: Mapping[str, Any]) -> str:
    total = f"{found['bytes'] / 1e6:,.1f} MB"
    if found["feature_bytes"] is None:
        return f"{total} so far"
    return f"{total}: features {found['feature_bytes'] / 1e6:,.1f}, images {found['image_bytes'] / 1e6:,.1f}"


def _plain(name: str, value: Any) -> str:
    """A value of the identity in one line."""
    if name == "preprocessing" and isinstance(value, Mapping) and "input_size" in value:
        rest = {key: item for key, item in value.items() if key != "input_size"}
        return f"{_times(value['input_size'][1:])}, {_plain('', rest)}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')} {_plain('', item)}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return " ".join(_plain("", item) for item in value) or "none"
    return str(value)


def _times(sides: Sequence[Any]) -> str:
    return " x ".join(map(str, sides))


def _print_table(told: Mapping[str, str]) -> None:
    """A table on a terminal, `name<TAB>value` lines elsewhere."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        click.echo("\n".join(f"{name}\t{text}" for name, text in told.items()))
        return
    table = Table(show_header=False)
    for name, text in told.items():
        table.add_row(name, Text(text))  # as it is: a key may hold what rich takes for markup
    console.print(table)
