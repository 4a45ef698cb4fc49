"""`tcs distill`: images in, students and a table out. Every stage is the function of its own command, and is resumed by a rerun."""

import dataclasses
import itertools
import os
import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

import cache
from tcs.artefact import plain_json
from tcs.config.distill import DistillConfig
from tcs.config.extract import ExtractConfig
from tcs.config.pixels import FIRST
from tcs.coordinates.fit import fit
from tcs.coordinates.targets import fit_targets
from tcs.errors import ArtefactError, ConfigError
from tcs.extraction.extract import extract, extract_prepared
from tcs.images.stored import rules_of
from tcs.pipeline.division import divide
from tcs.pipeline.exports import export_run
from tcs.pipeline.outcome import Outcome, scored
from tcs.pipeline.plan import ChainPlan, labels_config, make_plan, scoring_config, tell
from tcs.pipeline.stages import Stages
from tcs.plain_files import save_json
from tcs.runtime import environment, place, say
from tcs.training.train import train

WORTH_ASKING = 10  # images without a label, for which it is worth to ask which to label next


def distill(config: DistillConfig) -> Outcome:
    """Run the chain that `config` describes, or what is left of it, into the folder `config.out`.

    extract (and of the test images), fit and targets where the method reads them, train, eval, export: artefacts, identities and
    places are those of the single commands. What is finished is left as it is; labels that a label file has gained since are
    added to the store without a new pass. `overwrite` trains anew, and leaves the stores. With `dry_run` nothing is written.

    Returns an `Outcome`: `plan`, `rows` (one a student scored; top-1 and top-5 in percent), `seconds` by stage, `exported` (paths by
    format), `describe()` for people. Raises TcsError or CacheError, one line each, most of them before the teacher runs.
    """
    if place().world_size > 1:
        raise ConfigError(
            "tcs distill runs in one process; under torchrun run tcs extract and tcs train, one after the other."
        )
    _require_own_folder(config)
    plan, stages = _begin(config)
    if stages is None:
        say("Nothing was written.")
        return Outcome(plan=plan)
    return _go_on(config, plan, stages)


def _require_own_folder(config: DistillConfig) -> None:
    """ArtefactError where `out` is a file, or a folder of the images that are read: artefacts would lie among them."""
    out = config.places.out
    if out.exists() and not out.is_dir():
        raise ArtefactError(f"--out {out} is a file; the artefacts of a chain go into a folder. Give another --out.")
    read = (config.extract.data, *config.extract.unlabelled_data, config.test)
    if out.exists() and any(data and pathlib.Path(data).exists() and out.samefile(data) for data in read):
        raise ArtefactError(
            f"--out {out} is a folder of the images; the artefacts of a chain would lie among them. Give another --out."
        )


def _begin(config: DistillConfig) -> tuple[dict[str, Any], Stages | None]:
    """Tell the plan and run the teacher over the training images; no stages in a dry run.

    The teacher is gone when this returns: two at once might not fit the device.
    """
    plan = make_plan(config)
    tell(config, plan)
    if config.dry_run:
        return plan.to_json(), None
    config.places.out.mkdir(parents=True, exist_ok=True)
    save_json(config.places.record, {"options": plain_json(dataclasses.asdict(config)), "environment": environment()})
    stages = Stages(_names(config, plan))
    with stages.stage("extract", f"the teacher runs once over {config.extract.data}"):
        extract_prepared(plan.extraction)
    return plan.to_json(), stages


def _go_on(config: DistillConfig, plan: dict[str, Any], stages: Stages) -> Outcome:
    """All stages after the first."""
    places = config.places
    if config.test is not None:
        with stages.stage("extract test", f"and over {config.test}"):
            extract(by_rules_of(places.train_store, scoring_config(config)))
    if config.val_split is not None:
        with stages.stage("divide", f"{100 * config.val_split:g} % of the labelled images are held out"):
            divide(places, config.val_split, config.train.seed)
    targets = None
    if plan["targets"]:
        with stages.stage("fit", "a coordinate system from the cached features"):
            fit(config.fit)
        with stages.stage("targets", "coordinates and hash bits of every row"):
            targets = str(fit_targets(config.targets))
    with stages.stage("train", f"{', '.join(config.train.models)}, without the teacher"):
        train(dataclasses.replace(config.train, targets=targets))
    if config.compare_labels:
        with stages.stage("train labels", "the same students from the labels alone"):
            train(labels_config(config))
    rows: list[dict[str, Any]] = []
    if places.test_store.exists() and (config.test is not None or config.val_split is not None):
        with stages.stage("eval", f"on {places.test_store}"):
            rows = scored(config)
    exported: dict[str, list[str]] = {}
    refused: dict[str, str | None] = {}
    for kind in config.exports:
        with stages.stage(f"export {kind}", f"to {places.exported(kind)}"):
            test_store = places.test_store if rows else None
            exported[kind], refused[kind] = export_run(kind, config, test_store)
    return Outcome(
        plan=plan,
        rows=tuple(rows),
        seconds=stages.seconds,
        exported=exported,
        refused=next(filter(None, refused.values()), None),
        closing=_closing(config, stages),
    )


def by_rules_of(store: pathlib.Path, config: ExtractConfig) -> ExtractConfig:
    """Test images become pixels as those of training did, also where these were extracted by an earlier release."""
    version = rules_of(cache.open(store)).version
    return dataclasses.replace(config, pixel_rules=version) if version == FIRST else config


def _quoted(path: str | os.PathLike[str]) -> str:
    """A path as a shell takes it."""
    return shlex.quote(os.fspath(path))


def _names(config: DistillConfig, plan: ChainPlan) -> tuple[str, ...]:
    """The stages of this chain, in order."""
    scores = config.test is not None or config.val_split is not None
    asked: Mapping[str, bool] = {
        "extract": True,
        "extract test": config.test is not None,
        "divide": config.val_split is not None,
        "fit": plan.uses_targets,
        "targets": plan.uses_targets,
        "train": True,
        "train labels": config.compare_labels,
        "eval": scores,
        **{f"export {kind}": True for kind in config.exports},
    }
    return tuple(name for name, is_asked in asked.items() if is_asked)


def _next_table(folder: pathlib.Path) -> pathlib.Path:
    """A name for the next table of images to label: those of earlier rounds hold somebody's classes."""
    names = (f"next{'' if number == 1 else number}.csv" for number in itertools.count(1))
    return next(folder / name for name in names if not (folder / name).exists())


def _closing(config: DistillConfig, stages: Stages) -> str:
    """What it took, where the files are, and what to run next."""
    places, store = config.places, cache.open(config.places.train_store)
    lines = [stages.describe(), "", "Files:", f"  {places.train_store}  features and images"]
    lines += [f"  {places.test_store}  the same of the images scored on"] if places.test_store.exists() else []
    lines += [f"  {places.run}/<student>/folded.safetensors  a plain timm state dict"]
    lines += [f"  {places.exported(kind)}" for kind in config.exports]
    unlabelled = int((store.labels_N < 0).sum())
    if unlabelled >= WORTH_ASKING:
        file = config.extract.label_file
        given = "" if file is None else f" --labelled {_quoted(file)}"
        asked = (
            places.train_store if config.val_split is None else places.whole_store
        )  # which has all images of the file
        lines += [
            "",
            f"Next, label what helps most of the {unlabelled:,} images without a label, and run this again with them:",
        ]
        table = _next_table(places.out)
        sheet = f"--sheet {_quoted(table.with_suffix('.jpg'))}"
        lines += [f"  tcs suggest {_quoted(asked)} --n {min(20, unlabelled)}{given} --out {_quoted(table)} {sheet}"]
    else:
        lines += ["", "Next, score the students on other images:", f"  tcs eval {_quoted(places.run)} DATA"]
    return "\n".join(lines)
