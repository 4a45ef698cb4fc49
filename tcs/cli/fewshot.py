"""`tcs fewshot`."""

import click

from tcs.config.evaluate import FewshotConfig


@click.command()
@click.argument("recipe", type=click.Path())
@click.option("--out", required=True, type=click.Path(), help="Folder for results.csv, splits and runs.")
@click.option(
    "--cells", help="Only the i-th of n parts of the grid, as 1/4, for a job array whose disks share no locks."
)
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
@click.option("--device", default="cpu", show_default=True)
def command(recipe: str, out: str, cells: str | None, dry_run: bool, device: str) -> None:
    """Run the grid shots x students x methods x seeds of RECIPE; rerun to resume."""
    config = FewshotConfig(recipe=recipe, out=out, cells=cells, dry_run=dry_run, device=device)
    from tcs.grid.run import fewshot

    failed = fewshot(config)
    if not config.dry_run:
        click.echo(f"{config.out}/results.csv")
    if failed:
        raise click.ClickException(
            f"{failed} cells failed; their rows in results.csv say why. Rerun to try them again."
        )
