"""`tcs distill`. Its options are those of the stages' commands, taken from these, and a few of its own."""

import contextlib
import copy
import json
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import click

from tcs.cli import extract, fit, targets, train
from tcs.cli.completion import complete_format
from tcs.cli.config_file import config_file_option
from tcs.cli.train_options import GroupedCommand, GroupedOption
from tcs.config.distill import PREFIXES, SHARED, DistillConfig, option_names
from tcs.config.export import FORMATS, MAX_DROP_POINTS
from tcs.errors import ArtefactError, either

COMMANDS = {"extract": extract.command, "train": train.command, "fit": fit.command, "targets": targets.command}
GROUPS = {"extract": "Images and the teacher's pass", "fit": "Coordinates", "targets": "Hash bits"}
CHAIN = "The chain"
FLAG = re.compile(r"--[a-z][a-z0-9-]*")


def derived_options() -> list[click.Option]:
    """The options of all stages under their names here, in the order and the groups of the stages' own help.

    Those of all stages have the words of `tcs train`; in a stage's words its options are called as they are here.
    """
    found: dict[str, click.Option] = {}
    for stage, names in option_names().items():
        renamed = {_flag(old): _flag(new) for old, new in names.items() if old != new}
        for parameter in COMMANDS[stage].params:
            name = names.get(str(parameter.name))
            is_here = name is not None and name not in found and (name not in SHARED or stage == "train")
            if isinstance(parameter, click.Option) and name is not None and is_here:
                found[name] = _derived(parameter, stage, name)
                found[name].help = FLAG.sub(lambda flag: renamed.get(flag[0], flag[0]), parameter.help or "")  # noqa: B023
    return list(found.values())


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _derived(option: click.Option, stage: str, name: str) -> click.Option:
    """A copy of a stage's option, under `name`, and without its letter where it is not the first of that name."""
    made = copy.copy(option)
    made.name = name
    if name != option.name:
        prefix = PREFIXES[stage].replace("_", "-")
        made.opts = [f"--{prefix}{text.removeprefix('--')}" for text in option.opts if text.startswith("--")]
        made.secondary_opts = [f"--{prefix}{text.removeprefix('--')}" for text in option.secondary_opts]
    made.group = CHAIN if name in SHARED else getattr(option, "group", None) or GROUPS[stage]  # type: ignore[attr-defined]
    return made


def with_stages(function: Any) -> Any:
    """Put the options of all stages on a command, after its own."""
    command: click.Command = function
    command.params += derived_options()
    return command


def _own(*names: str, **settings: Any) -> Callable[[Any], Any]:
    return click.option(*names, cls=GroupedOption, group=CHAIN, **settings)


@with_stages
@click.command(cls=GroupedCommand)
@config_file_option(nullable=("clip_grad",))
@click.argument("data")
@_own("--out", required=True, type=click.Path(), metavar="WORK", help="Folder of all that is made.")
@_own("--test", metavar="DATA", help="Images with labels to score the students on.")
@_own("--test-split", metavar="NAME", help="Part of --test to use, as --split is of DATA.")
@_own("--val-split", type=float, metavar="SHARE", help="Or a share of the labelled images of DATA, as 0.2.")
@_own(
    "--export",
    "exports",
    multiple=True,
    metavar="FORMAT",
    shell_complete=complete_format,
    help=f"Write the students for others too: {either(FORMATS)}. Repeatable.",
)
@_own("--with-preprocess", is_flag=True, help="Exported graphs take uint8 pixels and normalise them.")
@_own("--int8", metavar="DATA", help="With --export onnx: also an 8-bit file, calibrated with these images.")
@_own("--max-drop", type=float, default=MAX_DROP_POINTS, show_default=True, help="Points of top-1 that it may lose.")
@_own("--compare-labels", is_flag=True, help="Train each student from its labels alone as well.")
@_own("--overwrite", is_flag=True, help="Train anew what was trained otherwise; stores stay.")
@_own("--dry-run", is_flag=True, help="Print the plan and what it costs, and write nothing.")
@_own("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(as_json: bool, **options: Any) -> None:
    """From images to students in one command: extract, fit and targets where the method reads them, train, eval, export.

    DATA has a few labels and many images: class folders with --unlabelled-data, or any DATA with --label-file. WORK holds what the
    single commands would have made, at train.store, test.store, run/<student>/ and so on. Rerun the same command to resume; with more
    labels in the file, and --overwrite, the students are trained anew without a new pass of the teacher.

    Options are those of the stages. Of two that share a name the bare one is of tcs extract, --student-... of tcs train, --fit-... of
    tcs fit.
    """
    config = DistillConfig.from_options(options)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as in tcs extract
    from tcs.pipeline.chain import distill

    with contextlib.redirect_stdout(sys.stderr):  # stdout is for results, and a teacher of the user's own may print
        outcome = distill(config)
    if as_json:
        click.echo(json.dumps(outcome.to_json()))
    elif outcome.closing:
        click.echo(outcome.describe())
    if outcome.refused is not None:
        raise ArtefactError(outcome.refused)
