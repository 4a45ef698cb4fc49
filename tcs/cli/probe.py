"""`tcs probe`."""

import json
from typing import Any

import click

from tcs.config.evaluate import COMPRESSIONS, HEADS, PROJECTIONS, ProbeConfig
from tcs.config.teachers import CompareConfig
from tcs.errors import require

OF_ONE_STORE = ("projection", "dims", "compression", "head", "split-seed", "split-file", "copies")


@click.command()
@click.argument("stores", metavar="STORE...", nargs=-1, required=True, type=click.Path())
@click.option(
    "--test",
    "tests",
    required=True,
    multiple=True,
    type=click.Path(),
    help="Store to score on, of the same teacher. One a STORE.",
)
@click.option(
    "--readout",
    "readouts",
    multiple=True,
    help="Readout of both stores; needed where they hold several. A map is averaged. Of several teachers one for all, or one a STORE.",
)
@click.option(
    "--projection",
    "projections",
    type=click.Choice(PROJECTIONS),
    multiple=True,
    help="Kind of compression. Repeatable; all of them without it.",
)
@click.option("--dims", type=int, multiple=True, help="Coordinates K. Repeatable.")
@click.option(
    "--compression",
    "compressions",
    type=float,
    multiple=True,
    help=f"Dims of the features over K. Repeatable; {', '.join(f'{ratio:g}' for ratio in COMPRESSIONS)} without it.",
)
@click.option(
    "--head",
    type=click.Choice(HEADS),
    default="ridge",
    show_default=True,
    help="Classifier on K coordinates; transductive: labels are spread over all other rows of STORE first.",
)
@click.option(
    "--shots",
    type=int,
    multiple=True,
    help="Labelled rows a class; all labels without it. Of several teachers repeatable, 1 and 4 without it.",
)
@click.option("--split-seed", type=int, help="One k-shot split for all seeds; a split a seed without it.")
@click.option("--split-file", type=click.Path(), help="The labelled rows of this file of `class key` lines.")
@click.option(
    "--seed",
    "seeds",
    type=int,
    multiple=True,
    help="Seed of projections and splits. Repeatable; 0, 1, 2 (0 to 4 of several teachers).",
)
@click.option("--copies", type=int, default=200, show_default=True, help="Noisy copies of a row; --head ibm2 only.")
@click.option("--device", default="cpu", show_default=True, help="Where --head ibm2 and transductive are fitted.")
@click.option("--out", type=click.Path(), help="Folder for the table (.csv, .md) and the figure.")
@click.option("--overwrite", is_flag=True, help="Replace the results of other options in --out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(as_json: bool, stores: tuple[str, ...], **options: Any) -> None:
    """Score a head on compressed features of STORE, from 2x to 32x: the accuracy that a K-wide student could reach.

    With several stores, one a teacher of the same images, each with its --test in the same order: which teacher to take.
    """
    if len(stores) > 1:
        _compare(as_json, stores, options)
    else:
        _probe(as_json, stores[0], options)


def _probe(as_json: bool, store: str, options: dict[str, Any]) -> None:
    """Compressed features of one store."""
    single = {"test": "tests", "readout": "readouts", "shots": "shots"}
    given = {name: options.pop(many) for name, many in single.items()}
    for name, values in given.items():
        require(
            len(values) <= 1, f"--{name} is given {len(values)} times, and STORE once; give it once, or several stores."
        )
    options |= {name: values[0] if values else None for name, values in given.items()}
    options["projections"] = options["projections"] or PROJECTIONS
    options["seeds"] = options["seeds"] or ProbeConfig.seeds
    config = ProbeConfig(store=store, **options)
    import pathlib

    from tcs.evaluation.probe import measure_compression
    from tcs.reporting.compression import render, summary, write_compression

    result = measure_compression(config)
    if as_json:
        click.echo(json.dumps({"results": list(result.rows), "table": summary(result.rows), "out": config.out}))
    else:
        click.echo(render(result), nl=False)
    if config.out is not None:
        write_compression(result, pathlib.Path(config.out))


def _compare(as_json: bool, stores: tuple[str, ...], options: dict[str, Any]) -> None:
    """Several stores, one a teacher."""
    for name in OF_ONE_STORE:
        field = {"projection": "projections", "compression": "compressions"}.get(name, name.replace("-", "_"))
        default = {"head": "ridge", "copies": ProbeConfig.copies}.get(field)
        require(options.pop(field) in (default, None, ()), f"--{name} has no effect with several stores; leave it out.")
    defaults = {"shots": CompareConfig.shots, "seeds": CompareConfig.seeds}
    options |= {name: options[name] or default for name, default in defaults.items()}
    config = CompareConfig(stores=stores, **options)
    from tcs.evaluation.teachers import compare_teachers
    from tcs.reporting.teachers import facts_of, render

    found = compare_teachers(config)
    if as_json:
        click.echo(json.dumps(facts_of(found) | {"out": config.out}))
    else:
        click.echo(render(found), nl=False)
