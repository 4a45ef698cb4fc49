"""`tcs audit`."""

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click

from tcs.config.audit import NEAR_COSINE, AuditConfig

if TYPE_CHECKING:
    from tcs.auditing.result import Audit

SHOWN, PAIRS = 5, 3
WORDS = {
    "duplicate": "exact copies",
    "near-duplicate": "near copies, by cosine",
    "leak": "copies of test images",
    "conflict": "copies with two labels",
    "outlier": "images like no other, by robust deviations",
}


@click.command()
@click.argument("store", type=click.Path())
@click.option("--test", multiple=True, type=click.Path(), help="A store of test images, to find copies of. Repeatable.")
@click.option("--out", multiple=True, type=click.Path(), help="Table (.csv) or page (.html). Repeatable.")
@click.option("--readout", help="Readout of the store; needed where it holds several. A map is averaged.")
@click.option("--near", type=float, default=NEAR_COSINE, show_default=True, help="Cosine of near copies, 1 for equal.")
@click.option("--top", type=int, default=20, show_default=True, help="Images of a kind that the page shows, up to 200.")
@click.option("--overwrite", is_flag=True, help="Replace outputs that are there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(as_json: bool, **options: Any) -> None:
    """Find labels of STORE that look wrong, copies within it and in test stores, and odd images and classes.

    The table is --exclude of `tcs cache subset`.
    """
    config = AuditConfig(**options)
    from tcs.auditing.run import audit

    found = audit(config)
    if as_json:
        click.echo(json.dumps(_facts(found)))
    else:
        click.echo("\n".join(_lines(found, config)))


def _facts(found: "Audit") -> dict[str, Any]:
    """What was found as JSON types, under the names of the table's columns."""
    facts = dataclasses.asdict(found)
    for line in facts["findings"]:
        line["class"] = line.pop("label")
    return facts | {"counts": found.counts()}


def _lines(found: "Audit", config: AuditConfig) -> list[str]:
    """One screen: numbers, the worst by name, what to do next."""
    lines = [f"{found.store}: {found.rows:,} images, {found.labelled:,} with a label"]
    for kind, count in found.counts().items():
        worst = found.of(kind)[:SHOWN]
        if kind == "label-error":
            wrong = sum(item.score > 0 for item in found.of(kind))
            lines.append(
                f"label-error (labels that look wrong): {wrong:,} of {count:,}"
                if count
                else "label-error: not looked for"
            )
            worst = [item for item in worst if item.score > 0]
        elif kind == "leak" and not config.test:
            lines.append(f"leak ({WORDS[kind]}): not looked for without --test")
        else:
            lines.append(f"{kind} ({WORDS[kind]}): {count:,}" if count else f"{kind} ({WORDS[kind]}): none")
        lines += [f"  {item.score:6.3f} {item.key}{_what(item)}" for item in worst]
    for item in found.confusions[:PAIRS]:
        lines.append(f"mixed up: {item.label} is taken for {item.taken_for}, {item.images:,} of {item.rows:,}")
    lines += [f"few images: {item.name} ({item.rows:,})" for item in found.classes if item.is_few][:SHOWN]
    lines += [f"one-sided: {item.name} (spread {item.spread:.2f})" for item in found.classes if item.is_one_sided][
        :SHOWN
    ]
    return [*lines, _next(config)]


def _what(item: Any) -> str:
    """What is wrong with an image, behind its key."""
    if item.suggested:
        return f" ({item.label}, rather {item.suggested})"
    if item.other_key:
        return f" = {item.other_key}" + (f" of {item.other_store}" if item.other_store else "")
    return f" ({item.label})" if item.label else ""


def _next(config: AuditConfig) -> str:
    table, page = (next((path for path in config.out if path.lower().endswith(end)), None) for end in (".csv", ".html"))
    if table is None:
        return "All lines as a table: --out audit.csv; with pictures: --out audit.html."
    return (
        f"Look through {page or table}, take lines of what is right out of {table}, then: tcs cache subset {config.store} --exclude "
        f"{table} --out NEW.store (exact copies, leaks and conflicts; near copies of one class stay, unless "
        "--exclude-kind near-duplicate names them; wrong labels: tcs cache label)\n"
        "One pass: an audit of NEW.store ranks its labels and outliers anew, and there is always a first."
    )
