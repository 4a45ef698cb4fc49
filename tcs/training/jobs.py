"""The students of a run, checked before anything is trained: what each learns from which rows, and where its files go."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.checkpoint import ARGS, CONFIG
from tcs.config.extract import as_json
from tcs.config.train import DEFAULT_COMPONENTS, PLACES, SELECT_GATES, TrainConfig, may_score_labels
from tcs.coordinates.selection import Selection
from tcs.errors import ArtefactError, ConfigError
from tcs.methods.named import HEADLESS, METHODS, PROBE_FROZEN, Method, resolve_method
from tcs.splits.held_out import HeldOut, held_out_rows
from tcs.splits.shots import Split, leave_out, without_labels
from tcs.students.backbone import StudentSpec, parse_student
from tcs.training.checks import _check_labels, _check_names, check_options
from tcs.training.data import Source, check_needs, find_split, run_rows, vector_readout
from tcs.training.probe_start import Probe, probe_for
from tcs.training.views import check_views


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One student of a run, with everything that its students share. `size` is its image side in pixels."""

    spec: StudentSpec
    config: TrainConfig
    source: Source
    method: Method
    split: Split
    rows_n: NDArray[np.int64]
    held_out: HeldOut
    size: int
    probe: Probe | None
    selection: Selection | None
    folder: pathlib.Path

    @property
    def reads_targets(self) -> bool:
        """Whether the method reads coordinates or bits, which come from a targets file."""
        return bool(self.method.needs & {"coordinates", "bits"})

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that the student tells apart, in the order of its outputs; none without a classifier."""
        return () if self.method.head == HEADLESS else tuple(self.source.store.classes)

    @property
    def components(self) -> int | None:
        """Coordinates of the student's head or of its mimic losses; None where there are neither."""
        if not self.reads_targets and self.method.head != "tcs":
            return None
        targets = self.source.targets
        return DEFAULT_COMPONENTS if targets is None else targets.coordinates.basis_DK.shape[1]

    @property
    def gates(self) -> int | None:
        """How many gated coordinates stay open; None without gates."""
        if self.config.selection != SELECT_GATES or self.components is None:
            return None
        return self.config.keep or max(1, self.components // 2)


def plan_jobs(config: TrainConfig, source: Source) -> list[Job]:
    """The students of a run. ConfigError or ArtefactError for whatever can be told without building them."""
    method = resolve_method(
        config.method, config.head, config.loss, source.targets is not None, not may_score_labels(config)
    )
    name = _name_of(method, config)
    check_needs(method, source, name)
    _check_labels(method, config, source.store, name)
    if config.readout is not None or method.needs & {"features", "probe"}:
        vector_readout(source.store, config.readout)
    specs = [parse_student(model) for model in config.models]
    _check_names(specs)
    _check_run_folder(pathlib.Path(config.out))
    check_options(config, method)
    check_views(source.store, config)
    source.require_images()
    split, rows_n, held_out = _choose_rows(config, source, method)
    probe, selection = probe_for(method, source, config, split, config.seed)
    jobs = [
        Job(
            spec=spec,
            config=config,
            source=source,
            method=method,
            split=split,
            rows_n=rows_n,
            held_out=held_out,
            size=config.img_size or image_size(spec),
            probe=probe,
            selection=selection,
            folder=pathlib.Path(config.out) / spec.folder,
        )
        for spec in specs
    ]
    _check_gates(jobs[0])
    return jobs


def _choose_rows(config: TrainConfig, source: Source, method: Method) -> tuple[Split, NDArray[np.int64], HeldOut]:
    """The labelled rows of a run, all its rows, and the held-out ones, which are neither. Labelled rows are held out only where
    all of them are given and a number is asked for."""
    store = source.store
    split = find_split(store, config) if method.reads_labels else without_labels()
    rows_n = run_rows(source, split, method, config)
    split_seed = config.seed if config.split_seed is None else config.split_seed
    may_take = config.held_out is not None and method.reads_labels and may_score_labels(config)
    held_out = held_out_rows(store.keys, rows_n, split.rows_n, config.held_out, split_seed, may_take_labelled=may_take)
    if np.isin(split.rows_n, held_out.dropped_d).any():
        split = leave_out(split, held_out.dropped_d, store.keys, store.labels_N, store.classes)
    return split, held_out.kept(rows_n), held_out


def image_size(spec: StudentSpec) -> int:
    """The student's input size without --img-size: its own img_size argument, else timm's data config."""
    import timm

    if isinstance(spec.kwargs.get("img_size"), int):
        return int(spec.kwargs["img_size"])
    configured = timm.get_pretrained_cfg(spec.name) if timm.is_model(spec.name.partition(".")[0]) else None
    return int(configured.input_size[-1]) if configured is not None else 224


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
    if not path.is_dir() or path.is_symlink():
        return path.name == ARGS or (path.name.startswith(ARGS) and path.suffix == ".partial")
    return (path / CONFIG).is_file() or all(
        entry.name.startswith(CONFIG) and entry.suffix == ".partial" for entry in path.iterdir()
    )


def _check_gates(job: Job) -> None:
    """Refuse gates that nothing would train, or more of them than there are coordinates."""
    if job.config.selection != SELECT_GATES:
        return
    components = job.components
    if components is None or job.method.head != "tcs" or job.method.classifier == PROBE_FROZEN:
        raise ConfigError(
            f"--selection {SELECT_GATES} needs a classifier that is trained on coordinates; use --head tcs with a loss that "
            "has ce, such as --method tcs."
        )
    if job.gates is not None and job.gates > components:
        raise ConfigError(f"--keep is {job.gates}, and there are {components} coordinates; keep that many or fewer.")


def fingerprint_of(job: Job) -> tuple[str, dict[str, Any]]:
    """(digest, identity) of a student's run: all that decides its weights, and nothing that only says where things lie."""
    settings = {key: value for key, value in as_json(job.config).items() if key not in PLACES}
    targets = job.source.targets
    identity = settings | {
        "model": job.spec.text,
        "store_identity": job.source.store.identity,
        "targets_identity": None if targets is None or not job.reads_targets else targets.identity,
        "split_digest": job.split.digest,
        "selected": None if job.selection is None else [int(k) for k in job.selection.active_k],
    }
    return cache.digest_of_json(identity), identity
