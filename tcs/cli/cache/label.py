"""`tcs cache label`."""

import json

import click


@click.command(name="label")
@click.argument("store", type=click.Path())
@click.option(
    "--label-file",
    type=click.Path(),
    metavar="FILE",
    help="path,class or key,...,class rows, as tcs suggest writes them, or class key lines.",
)
@click.option(
    "--remove-file",
    type=click.Path(),
    metavar="FILE",
    help="Take the labels of these images away: keys or paths, one a line, or a table with such a column.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(store: str, label_file: str | None, remove_file: str | None, as_json: bool) -> None:
    """Give images of STORE labels, correct them, or take them away; images that no FILE names keep theirs. No teacher is needed.

    The store keeps its identity, so coordinates and targets made of it stay valid; splits, spread labels and results that read
    labels are others. The gate, which read them, is run again.
    """
    from tcs.config.labelling import LabelConfig
    from tcs.extraction.gate import add_gate
    from tcs.maintenance.facts import store_facts
    from tcs.splits.given_labels import label_store

    found = label_store(LabelConfig(store=store, label_file=label_file, remove_file=remove_file))
    if found.added or found.changed or found.removed:
        add_gate(store)
    if as_json:
        counts = {"added": found.added, "changed": found.changed, "removed": found.removed}
        click.echo(json.dumps({**counts, **store_facts(store)}))
