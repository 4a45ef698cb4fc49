"""`tcs eval`."""

import json

import click

from tcs.config.evaluate import EvalConfig


@click.command()
@click.argument("run", type=click.Path())
@click.argument("store", type=click.Path())
@click.option(
    "--probe",
    type=click.Path(),
    help="Fit a ridge probe of the students' frozen features on the labels of this store, instead of their classifiers.",
)
@click.option("--model", "models", multiple=True, help="Only this student of the run. Repeatable.")
@click.option("--data", help="The images, where STORE holds none: the DATA it was made from.")
@click.option("-b", "--batch-size", type=int, default=256, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(
    run: str,
    store: str,
    probe: str | None,
    data: str | None,
    models: tuple[str, ...],
    batch_size: int,
    device: str,
    as_json: bool,
) -> None:
    """Score the students of RUN on the images and labels of another STORE.

    Students that were trained without labels have no classifier: give them one with --probe.
    """
    config = EvalConfig(
        run=run, store=store, probe=probe, models=models, data=data, batch_size=batch_size, device=device
    )
    from tcs.evaluation.students import evaluate

    rows = evaluate(config)
    if as_json:
        click.echo(json.dumps({"results": rows}))
        return
    for row in rows:
        seen = f"; {row['seen']:,} of them SEEN in training or fitting" if row["seen"] else ""
        by = f" (ridge probe of {row['probe_rows']:,} images of {row['probe']})" if "probe" in row else ""
        click.echo(
            f"{row['model']}{by}: top1 {row['top1']:.2f} top5 {row['top5']:.2f} on {row['rows']:,} images of {row['store']}{seen}"
        )
