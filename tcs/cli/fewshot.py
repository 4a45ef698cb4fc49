"""`tcs fewshot`."""

from typing import Any

import click

from tcs.config.evaluate import ENGINES, LOCAL, FewshotConfig


@click.command()
@click.argument("recipe", type=click.Path())
@click.option("--out", required=True, type=click.Path(), help="Folder for results.csv, splits and runs.")
@click.option(
    "--cells", help="Only the i-th of n parts of the grid, as 1/4, for a job array whose disks share no locks."
)
@click.option(
    "--jobs", type=int, default=1, show_default=True, help="Processes, or tasks at once, or parts of an array."
)
@click.option("--engine", type=click.Choice(ENGINES), default=LOCAL, show_default=True, help="What runs them.")
@click.option("--slurm", multiple=True, metavar="KEY=VALUE", help="Of --engine submitit, as partition=gpu; repeatable.")
@click.option("--dry-run", is_flag=True, help="Check all that the grid needs, print plan, time and disk, and stop.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1 ...")
def command(**options: Any) -> None:
    """Run the grid shots x students x methods x seeds of RECIPE; rerun to resume.

    Students of one method, split and pool are trained on one stream of images. --jobs divides the cores among so many processes.
    """
    config = FewshotConfig(**options)
    from tcs.grid.run import fewshot

    failed = fewshot(config)
    if config.dry_run:
        if failed:
            raise click.ClickException(
                f"{failed} things of {config.recipe} would fail, told above; nothing was written."
            )
        return
    click.echo(f"{config.out}/results.csv")
    if failed:
        raise click.ClickException(
            f"{failed} cells failed; their rows in results.csv say why. Rerun to try them again."
        )
