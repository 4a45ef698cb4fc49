"""`tcs report`."""

import pathlib

import click


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=pathlib.Path))
@click.option("--out", type=click.Path(path_type=pathlib.Path), help="Markdown file.  [default: DIR/report.md]")
def command(folder: pathlib.Path, out: pathlib.Path | None) -> None:
    """Turn the results of `tcs fewshot --out DIR` into report.md, report.csv and accuracy.png."""
    from tcs.reporting.grid_report import write_report

    click.echo(str(write_report(folder, out)))
