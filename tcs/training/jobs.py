"""The students of a run, checked before anything is trained: what each learns from which rows, and where its files go.

Legend: n rows of this run, K coordinates.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.config.train import DEFAULT_COMPONENTS, SELECT_GATES, TrainConfig, may_score_labels
from tcs.coordinates.selection import Selection
from tcs.criteria.losses import needs_second_head
from tcs.errors import ArtefactError, ConfigError
from tcs.functional.coordinates import HashPlanes
from tcs.methods.named import (
    DEFAULT,
    HEADLESS,
    METHODS,
    PROBE_FROZEN,
    WITHOUT_POOL,
    Method,
    resolve_method,
    without_pool,
)
from tcs.plain_files import ARGS, CONFIG
from tcs.pool_labels.stored import SUFFIX
from tcs.runtime import say
from tcs.splits.held_out import HeldOut, held_out_rows
from tcs.splits.pool import pool_of
from tcs.splits.shots import Split, leave_out, split_of, split_seed_of, without_labels
from tcs.students.backbone import StudentSpec, parse_student
from tcs.students.start import require_published_weights
from tcs.students.student import StudentPlan
from tcs.training.batches import BatchPlan
from tcs.training.checks import check_labels, check_names, check_options
from tcs.training.data import (
    POOL_LABELS,
    RunData,
    check_needs,
    hash_planes,
    reads_coordinates,
    reads_targets,
    vector_readout,
)
from tcs.training.identity import run_identity
from tcs.training.phases import Phase, count_steps, plan_phases, plan_stages
from tcs.training.probe_start import Probe, probe_for
from tcs.training.views import check_views


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RunRows:
    """Rows of the store, int64: `split` carries labels, `rows_n` (sorted) are all that are trained on, held-out ones are neither."""

    split: Split
    rows_n: NDArray[np.int64]
    held_out: HeldOut


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """One student's run: all that decides its weights, but for what its rows hold. Students of one run differ in `spec` and `size`.

    `size` is the image side in pixels; `classes` are those that it tells apart, in the order of its outputs, none without a
    classifier; `components` counts the coordinates of its head or of its mimic losses, None where there are neither. `probe`,
    `selection` and `planes` (on the CPU) are there where the method reads them. `identity` names all this as JSON does.
    """

    spec: StudentSpec
    config: TrainConfig
    method: Method
    rows: RunRows
    steps: int
    size: int
    classes: tuple[str, ...]
    components: int | None = None
    probe: Probe | None = None
    selection: Selection | None = None
    planes: HashPlanes | None = None
    identity: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """The student as the command names it; its start and its draws are functions of it."""
        return self.spec.text

    @property
    def folder(self) -> pathlib.Path:
        """Where its files go."""
        return pathlib.Path(self.config.out) / self.spec.folder

    @property
    def fingerprint(self) -> str:
        """Digest of the identity."""
        return cache.digest_of_json(dict(self.identity))

    @property
    def gates(self) -> int | None:
        """How many gated coordinates stay open; None without gates."""
        if self.config.selection != SELECT_GATES or self.components is None:
            return None
        return self.config.keep or max(1, self.components // 2)

    @property
    def student_plan(self) -> StudentPlan:
        """What the student is built from."""
        return StudentPlan(
            spec=self.spec,
            n_classes=len(self.classes),
            components=self.components,
            reads_coordinates=self.method.head == "tcs",
            image_size=self.size,
            pretrained=self.config.pretrained,
            checkpoint=self.config.student_checkpoint,
            seed=self.config.seed,
            second_head=any(needs_second_head(phase.terms) for phase in self.phases),
        )

    @functools.cached_property
    def phases(self) -> tuple[Phase, ...]:
        """Its phases, in order."""
        return plan_phases(self.config, self.method, self.steps)

    @functools.cached_property
    def stages(self) -> tuple[tuple[int, BatchPlan], ...]:
        """(last step + 1, how its batches are split) of each phase."""
        rows = self.rows
        return plan_stages(self.config, self.method, self.steps, len(rows.split.rows_n), len(rows.rows_n))


def plan_jobs(config: TrainConfig, data: RunData, split: Split | None = None) -> list[Job]:
    """The students of a run. ConfigError or ArtefactError for whatever can be told without building them.

    `split` is the one that `config` names, from a caller that has drawn it already.
    """
    asked = resolve_method(config.method, config.head, config.loss, not may_score_labels(config))
    method, split = fitting_method(asked, config, data.store, split)
    specs = _checked_students(config, data, method)
    rows = choose_rows(config, data.store, method, split)
    probe, selection = probe_for(method, data, config, rows.split, rows.rows_n)
    steps = count_steps(config, method, len(rows.split.rows_n), len(rows.rows_n))
    jobs = [
        Job(
            spec=spec,
            config=config,
            method=method,
            rows=rows,
            steps=steps,
            size=config.img_size or image_size(spec),
            classes=() if method.head == HEADLESS else tuple(data.store.classes),
            components=_components(method, data, config),
            probe=probe,
            selection=selection,
            planes=hash_planes(data.targets) if data.targets is not None and "bits" in method.needs else None,
            identity=run_identity(spec, config, method, data, rows.split, selection),
        )
        for spec in specs
    ]
    _check_gates(jobs[0])
    return jobs


def fitting_method(
    asked: Method, config: TrainConfig, store: cache.Store, split: Split | None
) -> tuple[Method, Split | None]:
    """The method for what the rows of a run are, and their split where it was drawn to tell: the default needs a pool."""
    if without_pool(asked) is asked or not store.is_labelled:
        return asked, split
    split = split or split_of(store, config)
    if config.asks_for_pool and len(split.rows_n) < len(store):
        return asked, split
    method = without_pool(asked)
    why = "every row has a label" if len(split.rows_n) == len(store) else f"--unlabelled is {config.unlabelled}"
    say(f"There is no pool to spread labels over ({why}): {DEFAULT} becomes {WITHOUT_POOL}, loss {method.loss}.")
    return method, split


def _checked_students(config: TrainConfig, data: RunData, method: Method) -> list[StudentSpec]:
    """The students that the command names, once data, options, method and folder are found to suit each other."""
    name = _name_of(method, config)
    check_needs(method, data, name)
    check_labels(method, config, data.store, name)
    reads_store = method.needs & {"features", "probe"} or (data.targets is None and reads_coordinates(method, config))
    if config.readout is not None or reads_store:
        vector_readout(data.store, config.readout)
    specs = [parse_student(model) for model in config.models]
    check_names(specs)
    if config.pretrained:
        for spec in specs:
            require_published_weights(spec)
    _check_run_folder(pathlib.Path(config.out))
    check_options(config, method)
    check_views(data.store, config)
    data.require_images()
    return specs


def choose_rows(config: TrainConfig, store: cache.Store, method: Method, split: Split | None = None) -> RunRows:
    """The labelled rows of a run (of `split`, where it is drawn already), all its rows, and the held-out ones, which are neither.

    Labelled rows are held out only where all of them are given and a number is asked for.
    """
    split = (split or split_of(store, config)) if method.reads_labels else without_labels()
    split_seed = split_seed_of(config)
    rows_n = pool_of(store, split.rows_n, config.unlabelled if method.uses_pool else "none", split_seed)
    may_take = config.held_out is not None and method.reads_labels and may_score_labels(config)
    held_out = held_out_rows(store.keys, rows_n, split.rows_n, config.held_out, split_seed, may_take_labelled=may_take)
    if np.isin(split.rows_n, held_out.dropped_d).any():
        split = leave_out(split, held_out.dropped_d, store.keys, store.labels_N, store.classes)
    return RunRows(split=split, rows_n=held_out.kept(rows_n), held_out=held_out)


def image_size(spec: StudentSpec) -> int:
    """The student's input size without --img-size: its own img_size argument, else timm's data config."""
    import timm

    if isinstance(spec.kwargs.get("img_size"), int):
        return int(spec.kwargs["img_size"])
    configured = timm.get_pretrained_cfg(spec.name) if timm.is_model(spec.name.partition(".")[0]) else None
    return int(configured.input_size[-1]) if configured is not None else 224


def _components(method: Method, data: RunData, config: TrainConfig) -> int | None:
    if not reads_targets(method) and method.head != "tcs":
        return None
    if data.targets is None and "coordinates" not in method.needs:
        return DEFAULT_COMPONENTS  # random axes: nothing is fitted
    return data.coordinates(config.readout).coordinates.components


def _name_of(method: Method, config: TrainConfig) -> str:
    """How messages call the method of a run: by the option that asked for it."""
    if config.head is not None or config.loss is not None:
        return f"--loss '{method.loss}'"
    return f"--method {next(name for name, known in METHODS.items() if known is method)}"


def _check_run_folder(out: pathlib.Path) -> None:
    """Refuse a RUN that is a file or holds anything but student folders of ours."""
    if out.exists() and not out.is_dir():
        raise ArtefactError(f"--out {out} is a file; a run is a folder. Give another --out.")
    foreign = [path.name for path in out.iterdir() if not _is_ours(path)] if out.is_dir() else []
    if foreign:
        raise ArtefactError(
            f"--out {out} holds '{sorted(foreign)[0]}', which no run made; give an empty or new folder."
        )


def _is_ours(path: pathlib.Path) -> bool:
    """Whether a run made what stands at `path` in its folder, killed at any moment: before its files had their names, too."""
    # Our lock, and what systems leave in folders that were looked at.
    if path.name.startswith(".") and not path.is_dir():
        return True
    if path.is_dir() and path.name == POOL_LABELS:
        return all(
            entry.name.startswith(".") or (SUFFIX in entry.suffixes and entry.suffix in (SUFFIX, ".partial"))
            for entry in path.iterdir()
        )
    if not path.is_dir() or path.is_symlink():
        return path.name == ARGS or cache.is_partial(path, ARGS)
    return (path / CONFIG).is_file() or all(cache.is_partial(entry, CONFIG) for entry in path.iterdir())


def _check_gates(job: Job) -> None:
    """Refuse gates that nothing would train, or more of them than there are coordinates."""
    if job.config.selection != SELECT_GATES:
        return
    if job.components is None or job.method.head != "tcs" or job.method.classifier == PROBE_FROZEN:
        raise ConfigError(
            f"--selection {SELECT_GATES} needs a classifier that is trained on coordinates; use --head tcs with a loss that "
            "has ce, such as --method tcs."
        )
    if job.gates is not None and job.gates > job.components:
        raise ConfigError(
            f"--keep is {job.gates}, and there are {job.components} coordinates; keep that many or fewer."
        )
