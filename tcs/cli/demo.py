"""`tcs demo`."""

import click


@click.command()
@click.option(
    "--out", default="demo", show_default=True, type=click.Path(), help="Folder for everything that the demo makes."
)
@click.option(
    "--steps", type=click.IntRange(min=4), default=60, show_default=True, help="Training steps of each student."
)
def command(out: str, steps: int) -> None:
    """Run the whole chain on embedded data: extract, fit, targets, a few-shot grid, report. About a minute or two."""
    from tcs.demonstration.demo import demo

    click.echo(demo(out, steps))
