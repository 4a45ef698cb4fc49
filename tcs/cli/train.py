"""`tcs train`."""

import json
from typing import Any

import click

from tcs.cli.config_file import config_file_option
from tcs.cli.train_options import GroupedCommand, train_options
from tcs.config.train import TrainConfig


@click.command(cls=GroupedCommand)
@config_file_option(nullable=("clip_grad",))
@click.argument("store", type=click.Path())
@train_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(as_json: bool, **options: Any) -> None:
    """Train students from a store, without the teacher.

    `tcs methods` lists the losses and named methods: what each needs in the store, trains and costs; `tcs methods NAME`
    tells all about one. Published factors suit the features they were published for, so none is applied by itself.

    Rerun the same command to resume. RUN/<student>/ holds last.safetensors, folded.safetensors (a plain timm state dict),
    metrics.jsonl, summary.csv and config.json. Under torchrun the processes share every batch.
    """
    config = TrainConfig.from_options(options)
    from tcs.runtime import place
    from tcs.training.train import forecast, train

    as_rank_0 = place().rank == 0
    if config.dry_run:
        rows = forecast(config)
        if as_json and as_rank_0:
            click.echo(json.dumps({"students": rows}))
        return
    folders = train(config)
    if not as_rank_0:
        return
    if as_json:
        click.echo(json.dumps({"students": [str(folder) for folder in folders]}))
    else:
        click.echo("\n".join(f"{folder}/folded.safetensors" for folder in folders))
