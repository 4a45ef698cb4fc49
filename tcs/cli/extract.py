"""`tcs extract`."""

import ast
import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from tcs.cli.completion import complete_teacher
from tcs.config.extract import COMPUTE_DTYPES, LABEL_SOURCES, PROJECTIONS, STORED_DTYPES, ExtractConfig


def parse_kwargs(context: click.Context, option: click.Parameter, values: Sequence[str]) -> dict[str, Any]:
    """`k=v` texts as a dict: v as a Python literal where it is one, else as text. BadParameter without ``=``."""
    found = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"'{value}' must be NAME=VALUE, for example layers=(1,1,1,1).", context, option)
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[name] = text
    return found


def parse_key_map(context: click.Context, option: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    """`OLD=NEW` texts as a dict in their order; NEW may be empty. BadParameter without ``=`` or without OLD."""
    found: dict[str, str] = {}
    for value in values:
        old, equals, new = value.partition("=")
        if not equals or not old or old in found:
            raise click.BadParameter(
                f"'{value}' must be OLD=NEW, each OLD once, for example module.trunk.= or head.=- to drop.",
                context,
                option,
            )
        found[old] = new
    return found


def parse_project(context: click.Context, option: click.Parameter, values: Sequence[str]) -> dict[str, int]:
    """`map=64` texts as a dict from readouts to dims. BadParameter for anything else, and for a readout named twice."""
    found: dict[str, int] = {}
    for value in values:
        name, _, text = value.partition("=")
        if not name or not text.isdecimal() or name in found:
            raise click.BadParameter(f"'{value}' must be READOUT=DIMS, as map=64, once a readout.", context, option)
        found[name] = int(text)
    return found


def parse_size(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """`7x7`, or `7` for both, as (height, width). BadParameter for anything else."""
    if value is None:
        return None
    sides = value.split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise click.BadParameter(f"'{value}' must be HEIGHTxWIDTH in positions, as 7x7.", context, option)
    return int(sides[0]), int(sides[-1])


@click.command()
@click.argument("data")
@click.option("--out", required=True, type=click.Path(), help="Folder of the store, NAME.store by custom.")
@click.option(
    "--teacher",
    default="",
    show_default=False,
    shell_complete=complete_teacher,
    help="timm name, hf-hub:OWNER/NAME, local-dir:FOLDER or MODULE:FUNCTION.",
)
@click.option(
    "--teacher-card", type=click.Path(), help="In place of it: a card with teacher, weights and preprocessing."
)
@click.option("--teacher-checkpoint", type=click.Path(), help="Weights: .safetensors, or .pth with tensors only.")
@click.option("--checkpoint-key", metavar="NAME", help="Dict of that file to read.  [default: found by its layout]")
@click.option(
    "--key-map",
    multiple=True,
    callback=parse_key_map,
    metavar="OLD=NEW",
    help="Beginnings of keys to change. Repeatable.",
)
@click.option(
    "--teacher-kwargs", multiple=True, callback=parse_kwargs, metavar="K=V", help="For timm's constructor. Repeatable."
)
@click.option(
    "--readout",
    "readouts",
    multiple=True,
    default=("avg",),
    help="cls, avg, pool or map; of an inner layer block3.avg, stage2.map ... Repeatable: all come from one pass.",
)
@click.option(
    "--map-size", callback=parse_size, metavar="HxW", help="Average maps to this size.  [default: as they are]"
)
@click.option(
    "--project",
    multiple=True,
    callback=parse_project,
    metavar="READOUT=DIMS",
    help="Make vectors of this readout shorter, as map=64. Repeatable.",
)
@click.option(
    "--projection", type=click.Choice(PROJECTIONS), default="orthogonal", help="What --project projects with."
)
@click.option("--projection-images", type=int, default=512, help="Images that pca and autoencoder are fitted on.")
@click.option("--projection-from", type=click.Path(), metavar="STORE", help="Project as STORE does, for a test set.")
@click.option("--views", type=int, metavar="V", help="Augmented views of each image.  [default: the clean centre view]")
@click.option("--view-scale", type=float, nargs=2, default=(0.2, 1.0), metavar="MIN MAX", help="Area of a view's crop.")
@click.option("--view-ratio", type=float, nargs=2, default=(0.75, 4 / 3), metavar="MIN MAX", help="Its width / height.")
@click.option("--hflip", type=float, default=0.5, help="Probability that a view is mirrored.")
@click.option("--color-jitter", type=float, default=0.0, help="Change of a view's colours, as 0.4.")
@click.option("--grayscale-prob", type=float, default=0.0, help="Probability that a view is grey.")
@click.option("--seed", type=int, default=42, help="Of projections and views.")
@click.option("--split", help="Part of DATA to use, as train or val: a sub-folder, or a split of a named data set.")
@click.option(
    "--labels",
    type=click.Choice(LABEL_SOURCES),
    default="auto",
    help="Where classes come from; folder demands class folders.",
)
@click.option(
    "--label-file",
    type=click.Path(),
    metavar="FILE",
    help="Classes of some images (path,class or key,...,class rows, or class key lines); all others have none.",
)
@click.option(
    "--unlabelled-data",
    multiple=True,
    type=click.Path(),
    metavar="DIR",
    help="More images without labels: a folder, .tar or table. Repeatable.",
)
@click.option("--data-dir", type=click.Path(), help="Where a table's paths start, or a named data set is kept.")
@click.option("--dataset-download", is_flag=True, help="Let a named data set be fetched where it is missing.")
@click.option("--input-key", help="Column of the images or paths.  [default: image; path in a table]")
@click.option("--target-key", help="Column of the classes.  [default: label]")
@click.option("--class-map", type=click.Path(), help="Text file: one class name a line, in the order of the labels.")
@click.option("--img-size", type=int, help="Teacher's image size in pixels.  [default: timm's for the teacher]")
@click.option("--mean", type=float, nargs=3, metavar="R G B", help="Pixel mean.  [default: timm's for the teacher]")
@click.option("--std", type=float, nargs=3, metavar="R G B", help="Pixel spread.  [default: timm's for the teacher]")
@click.option("--crop-pct", type=float, help="Share kept by the centre crop.  [default: timm's for the teacher]")
@click.option("--interpolation", help="bilinear, bicubic ...  [default: timm's for the teacher]")
@click.option("--ignore-orientation", is_flag=True, help="Show images as they are stored, not as their EXIF says.")
@click.option("--background", default="white", metavar="COLOUR", help="What lies behind transparency: name or #rrggbb.")
@click.option("--pixel-rules", type=int, metavar="1|2", help="1: as earlier releases made pixels.  [default: 2]")
@click.option("--images", help="original, resized:PX or none.  [default: original, up to 10 GB]")
@click.option("--dtype", type=click.Choice(STORED_DTYPES), default="float16", help="Of the stored features.")
@click.option("--compute-dtype", type=click.Choice(COMPUTE_DTYPES), default="float32", help="Of the teacher's pass.")
@click.option(
    "--teacher-channels-last/--no-teacher-channels-last",
    default=None,
    help="Memory layout of the teacher's pass.  [default: the faster one]",
)
@click.option("--rows-per-shard", type=int, default=8192, help="Images per file of the store.")
@click.option("-b", "--batch-size", type=int, default=64, help="Images per teacher batch.")
@click.option("-j", "--workers", type=int, default=2, help="Decoding processes; 0 decodes in this one.")
@click.option("--device", default="cpu", help="cpu, cuda, cuda:1 ...; under torchrun cuda is the rank's GPU.")
@click.option("--max-bad", type=int, default=0, help="Bad images that are left out without failing.")
@click.option("--dry-run", is_flag=True, help="Print what the pass costs, and write nothing.")
@click.option("--overwrite", is_flag=True, help="Delete the store that is there, and begin anew.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(as_json: bool, **options: Any) -> None:
    """Run a teacher once over the images of DATA, into a feature store.

    DATA is a folder of images, flat or with one sub-folder per class; a .tar of such a folder; a .csv or .parquet with
    the columns path and label; torch/NAME or hfds/NAME as in timm, local Hugging Face data as hfds/PATH.

    Run the same command again to resume; a finished store is left as it is. Bad images are listed, and fail the command
    beyond --max-bad. For several GPUs or machines start it with torchrun: see docs/how-to/distributed.md.
    """
    config = ExtractConfig(**options)
    # Decoding processes share the cores with torch's threads, which by default spin while they wait: with one more busy
    # process on 2 cores a small teacher ran at 37 images/s so, and at 967 with threads that sleep. Read at torch's import.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with contextlib.redirect_stdout(sys.stderr):  # stdout is for results, and a teacher of the user's own may print
        result = _run(config, as_json)
    if result is not None:
        click.echo(json.dumps(result))


def _run(config: ExtractConfig, as_json: bool) -> dict[str, Any] | None:
    """Run the pass; returns what --json prints of it, on rank 0: the cost of a dry run, or the facts of the store."""
    from tcs.extraction.extract import extract
    from tcs.extraction.plan import prepare
    from tcs.maintenance.facts import store_facts
    from tcs.runtime import place

    here = place()
    if config.dry_run and as_json:
        return dataclasses.asdict(prepare(config).cost().among(here.world_size)) if here.rank == 0 else None
    store = extract(config)
    return store_facts(store) if as_json and here.rank == 0 else None
