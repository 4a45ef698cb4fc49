"""`tcs report`."""

import pathlib

import click


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=pathlib.Path))
@click.argument("other", metavar="[OTHER]", required=False, type=click.Path(path_type=pathlib.Path))
@click.option(
    "--out",
    type=click.Path(path_type=pathlib.Path),
    help="The end of its name says what is written: .md, .html, .tex, .csv, .svg or .png.  [default: DIR/report.md]",
)
def command(folder: pathlib.Path, other: pathlib.Path | None, out: pathlib.Path | None) -> None:
    """Turn the results of `tcs fewshot --out DIR` into a report: by default report.md, report.csv and accuracy.svg; with --out
    report.html one page that a browser shows. DIR may be a folder of `tcs train` or `tcs probe` as well. With OTHER the two grids are
    compared (--out .md or .html)."""
    from tcs.grid.reported import write_report

    click.echo(str(write_report(folder, out, other)))
