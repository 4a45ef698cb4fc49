"""`tcs latency`."""

import json
from typing import Any

import click

from tcs.cli.completion import complete_teacher
from tcs.config.inference import LatencyConfig


@click.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(), metavar="MODEL...")
@click.option(
    "--against",
    multiple=True,
    metavar="NAME[,k=v...]",
    shell_complete=complete_teacher,
    help="A timm model, as the teacher. Repeatable.",
)
@click.option("-b", "--batch-size", type=int, default=32, show_default=True, help="Images at once, for throughput.")
@click.option("--threads", type=int, help="Of the processor.  [default: all cores]")
@click.option("--seconds", type=float, default=2.0, show_default=True, help="How long each number is measured.")
@click.option(
    "--device",
    "devices",
    multiple=True,
    help="Where to measure.  [default: cpu, and cuda where there is one]  Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(as_json: bool, **options: Any) -> None:
    """Measure how long students take for one image and for a batch, beside their parameters and multiply-adds.

    MODEL is a run (all its students), RUN/<student>, a folder that tcs export wrote, or an .onnx file. Times are of the forward
    pass alone: medians, with quartiles.
    """
    config = LatencyConfig(**options)
    from tcs.inference.latency import comparison, measure_latency, names_of

    rows = measure_latency(config)
    if as_json:
        click.echo(json.dumps({"results": rows}))
        return
    for row, name in zip(rows, names_of(rows), strict=True):
        size = "" if row["param_count"] is None else f", {row['param_count']:.2f} M parameters"
        macs = "" if row["infer_gmacs"] is None else f", {1000 * row['infer_gmacs']:,.1f} M multiply-adds"
        click.echo(f"{name} ({row['img_size']} px{size}{macs}) on {row['device']}, {row['threads']} threads:")
        click.echo(f"  one image  {_spread(row, 'latency_ms', 2)} ms")
        click.echo(f"  batch {row['batch_size']:<4} {_spread(row, 'infer_samples_per_sec', 1)} images/s")
    for line in comparison(rows):
        click.echo(line)


def _spread(row: dict[str, Any], name: str, digits: int) -> str:
    """Median [quartiles]."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"{row[name]:,.{digits}f} [{low:,.{digits}f} - {high:,.{digits}f}]"
