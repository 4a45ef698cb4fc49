"""The stage `tcs train`: store (and targets) -> RUN/<student>/. Loads no teacher and no faiss."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

import cache
from tcs.checkpoint import CONFIG, FOLDED, LAST, RESUME, SEEN, SUMMARY, load_json, save_json, save_table, save_weights
from tcs.config import SELECT_GATES, TrainConfig, as_json
from tcs.errors import ArtefactError, ConfigError, did_you_mean
from tcs.loop import Outcome, train_student
from tcs.methods import PROBE_FROZEN, Method, resolve_method
from tcs.recipe import Recipe
from tcs.runtime import environment, pick_device, progress_bar, say
from tcs.selection import Selection
from tcs.source import (
    Source,
    check_needs,
    find_split,
    hash_planes,
    load_rows,
    open_source,
    probe_for,
    run_rows,
    vector_readout,
)
from tcs.splits import Split
from tcs.student import StudentPlan, StudentSpec, build_student, measured_maps, normalisation, parse_student
from tcs.trainer import Probe, Surroundings, Trainer

DEFAULT_STEPS = 2000
DEFAULT_COMPONENTS = 256
PLACES = ("out", "store", "targets", "models", "split_file", "selection", "device", "checkpoint_every", "overwrite")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One student of a run, with everything that its students share."""

    spec: StudentSpec
    config: TrainConfig
    source: Source
    method: Method
    split: Split
    rows_n: Any
    size: int
    probe: Probe | None
    selection: Selection | None
    folder: pathlib.Path


def train(config: TrainConfig, source: Source | None = None) -> list[pathlib.Path]:
    """Train every student of `config` and return their folders RUN/<student>/.

    A folder holds last.safetensors (unfolded), folded.safetensors (a plain timm state dict), summary.csv, config.json and
    seen.npy (content hashes of the images trained or fitted on). Finished students are left alone; unfinished ones resume.
    `source` shares an open store and its decoded images between calls. Raises TcsError or CacheError for whatever a user
    can cause: unknown students, missing labels or targets, another configuration in the same folder, divergence.
    """
    source = source or open_source(config.store, config.targets)
    return [train_one(job) for job in plan_jobs(config, source)]


def plan_jobs(config: TrainConfig, source: Source) -> list[Job]:
    """The students of a run, checked before anything is trained."""
    method = resolve_method(config.method, config.head, config.loss, source.targets is not None)
    check_needs(method, source, f"--method {config.method}" if config.method else f"--loss '{method.loss}'")
    if config.readout is not None or method.needs & {"features", "probe"}:
        vector_readout(source.store, config.readout)
    specs = [parse_student(model) for model in config.models]
    folders = [spec.folder for spec in specs]
    if len(set(folders)) != len(folders):
        raise ConfigError(f"--model names one student twice ({', '.join(sorted(folders))}); give each student once.")
    _check_run_folder(pathlib.Path(config.out))
    _check_optimiser(config.opt)
    split = find_split(source.store, config)
    probe, selection = probe_for(method, source, config, split, config.seed)
    rows_n = run_rows(source, split, method, config)
    return [
        Job(
            spec=spec,
            config=config,
            source=source,
            method=method,
            split=split,
            rows_n=rows_n,
            size=config.img_size or image_size(spec),
            probe=probe,
            selection=selection,
            folder=pathlib.Path(config.out) / spec.folder,
        )
        for spec in specs
    ]


def image_size(spec: StudentSpec) -> int:
    """The student's input size without --img-size: its own img_size argument, else timm's data config."""
    import timm

    if isinstance(spec.kwargs.get("img_size"), int):
        return int(spec.kwargs["img_size"])
    configured = timm.get_pretrained_cfg(spec.name) if timm.is_model(spec.name.partition(".")[0]) else None
    return int(configured.input_size[-1]) if configured is not None else 224


def _check_optimiser(name: str) -> None:
    import timm.optim

    known = timm.optim.list_optimizers()
    if name.lower() not in known:
        raise ConfigError(
            f"--opt is '{name}', which timm does not have.{did_you_mean(name, known)} adamw, sgd and lamb work."
        )


def _check_run_folder(out: pathlib.Path) -> None:
    """Refuse a RUN that is a file or holds anything but student folders of ours."""
    if out.exists() and not out.is_dir():
        raise ArtefactError(f"--out {out} is a file; a run is a folder. Give another --out.")
    foreign = [path.name for path in out.iterdir() if not (path / CONFIG).is_file()] if out.is_dir() else []
    if foreign:
        raise ArtefactError(
            f"--out {out} holds '{sorted(foreign)[0]}', which no run made; give an empty or new folder."
        )


def fingerprint_of(job: Job) -> tuple[str, dict[str, Any]]:
    """(digest, identity) of a student's run: all that decides its weights, and nothing that only says where things lie."""
    settings = {key: value for key, value in as_json(job.config).items() if key not in PLACES}
    targets = job.source.targets
    identity = settings | {
        "model": job.spec.text,
        "store_identity": job.source.store.identity,
        "targets_identity": None if targets is None or not reads_targets(job.method) else targets.identity,
        "split_digest": job.split.digest,
        "selected": None if job.selection is None else [int(k) for k in job.selection.active_k],
    }
    return cache.digest_of_json(identity), identity


def train_one(job: Job) -> pathlib.Path:
    """Train one student into its folder, or find it finished there, or resume it."""
    digest, identity = fingerprint_of(job)
    if _is_finished(job, identity):
        say(f"{job.folder} is finished; nothing to do.")
        return job.folder
    trainer = make_trainer(job)
    job.folder.mkdir(parents=True, exist_ok=True)
    save_json(job.folder / CONFIG, {"state": "training", "identity": identity})
    _announce(job, trainer)
    with progress_bar(trainer.recipe.steps, job.spec.name, "steps") as bar:
        outcome = train_student(trainer, bar, job.folder, digest, job.config.checkpoint_every)
    _save_student(job, trainer, outcome, identity)
    return job.folder


def _is_finished(job: Job, identity: dict[str, Any]) -> bool:
    """Whether the folder holds this very run, finished. ArtefactError where it holds another one; --overwrite clears it."""
    if not (job.folder / CONFIG).exists():
        return False
    if job.config.overwrite:
        # The record first, so that the folder stays ours if killed here; then only what a run writes.
        save_json(job.folder / CONFIG, {"state": "training", "identity": identity})
        for name in (SUMMARY, LAST, FOLDED, RESUME, SEEN):
            (job.folder / name).unlink(missing_ok=True)
        return False
    found = load_json(job.folder / CONFIG)
    for key, value in identity.items():
        if found["identity"].get(key) != value:
            there = str(found["identity"].get(key))[:80]
            raise ArtefactError(
                f"{job.folder} was made with {key} {there}, this command has {str(value)[:80]}; use another --out or --overwrite."
            )
    return bool(found["state"] == "finished")


def make_trainer(job: Job) -> Trainer:
    """The student, its rows and its surroundings, ready for step 0."""
    config, device, targets = job.config, pick_device(job.config.device), job.source.targets
    components = _components(job) if reads_targets(job.method) or job.method.head == "tcs" else None
    plan = StudentPlan(
        spec=job.spec,
        n_classes=len(job.source.store.classes),
        components=components,
        reads_coordinates=job.method.head == "tcs",
        image_size=job.size,
        pretrained=config.pretrained,
        seed=config.seed,
    )
    student = build_student(plan)
    rows = load_rows(job.source, job.split, job.method, config, job.rows_n, job.size, device)
    mean, std = normalisation(student.backbone)
    around = Surroundings(
        planes=hash_planes(targets, device) if targets is not None and "bits" in job.method.needs else None,
        probe=job.probe,
        device=device,
        student_maps=measured_maps(student.backbone, job.spec, job.size, len(rows.teacher_maps))
        if rows.teacher_maps
        else (),
        mean=mean,
        std=std,
    )
    recipe = dataclasses.replace(
        make_recipe(config, job.method, len(job.rows_n), job.size), gates=_gates(job, components)
    )
    return Trainer(student, rows, recipe, around, job.spec.text)


def _gates(job: Job, components: int | None) -> int | None:
    """How many gated coordinates stay open. ConfigError where nothing would train the gates, or there are fewer coordinates."""
    if job.config.selection != SELECT_GATES:
        return None
    if components is None or job.method.head != "tcs" or job.method.classifier == PROBE_FROZEN:
        raise ConfigError(
            f"--selection {SELECT_GATES} needs a classifier that is trained on coordinates; use --head tcs with a loss that "
            "has ce, such as --method tcs."
        )
    keep = job.config.keep or max(1, components // 2)
    if keep > components:
        raise ConfigError(f"--keep is {keep}, and there are {components} coordinates; keep that many or fewer.")
    return keep


def reads_targets(method: Method) -> bool:
    """Whether the method reads coordinates or bits, which come from a targets file."""
    return bool(method.needs & {"coordinates", "bits"})


def _components(job: Job) -> int:
    targets = job.source.targets
    return DEFAULT_COMPONENTS if targets is None else targets.coordinates.basis_DK.shape[1]


def make_recipe(config: TrainConfig, method: Method, rows: int, size: int) -> Recipe:
    """The numbers of `config`; --epochs counts passes over all rows of the run."""
    steps = config.steps or DEFAULT_STEPS
    if config.epochs is not None:
        steps = max(1, config.epochs * rows // min(config.batch_size, rows))
    shared = {field.name for field in dataclasses.fields(Recipe)} & set(as_json(config)) - {"method", "steps"}
    values = {key: value for key, value in as_json(config).items() if key in shared}
    return Recipe(method=method, steps=steps, padding=round(config.crop_padding * size), **values)


def _announce(job: Job, trainer: Trainer) -> None:
    parameters = sum(parameter.numel() for parameter in trainer.student.backbone.parameters()) / 1e6
    say(
        f"{job.spec.text}: {job.method.about}; {trainer.recipe.steps:,} steps of {trainer.plan.rows} images "
        f"({len(job.split.rows_n):,} labelled rows, {len(job.rows_n):,} rows in all), {parameters:.2f} M parameters."
    )


def _save_student(job: Job, trainer: Trainer, outcome: Outcome, identity: dict[str, Any]) -> None:
    """Write the weights, then the configuration that calls the folder finished, then drop the resume file."""
    save_weights(job.folder / LAST, trainer.student.state_dict())
    save_weights(job.folder / FOLDED, trainer.student.folded_state())
    save_table(job.folder / SUMMARY, outcome.summary)
    _save_seen(job)
    save_json(job.folder / CONFIG, run_record(job, trainer, outcome, identity))
    (job.folder / RESUME).unlink(missing_ok=True)


def run_record(job: Job, trainer: Trainer, outcome: Outcome, identity: dict[str, Any]) -> dict[str, Any]:
    """What config.json holds of a finished student."""
    return {
        "state": "finished",
        "identity": identity,
        "config": as_json(job.config),
        "method": dataclasses.asdict(job.method),
        "classes": list(job.source.store.classes),
        "stores_read": [str(job.source.store.path)],
        "student": {
            "name": job.spec.name,
            "kwargs": dict(job.spec.kwargs),
            "image_size": job.size,
            "mean": list(trainer.around.mean),
            "std": list(trainer.around.std),
            "parameters": sum(parameter.numel() for parameter in trainer.student.backbone.parameters()),
        },
        "rows": {"labelled": len(job.split.rows_n), "all": len(job.rows_n)},
        "recipe": {key: value for key, value in dataclasses.asdict(trainer.recipe).items() if key != "method"},
        "cost": {
            "wall_seconds": outcome.wall_seconds,
            "images_seen": outcome.images_seen,
            "peak_mib": outcome.peak_mib,
        },
        "environment": environment(),
    }


def _save_seen(job: Job) -> None:
    """Content hashes (uint8, n x 16) of every image trained on or, through the coordinate system, fitted on."""
    import io

    trained = job.source.store.hashes_N16[job.rows_n]
    fitted = job.source.targets.hashes_N16 if job.source.targets is not None else trained[:0]
    buffer = io.BytesIO()
    np.save(buffer, np.unique(np.concatenate([trained, fitted]), axis=0), allow_pickle=False)
    cache.atomic_write_bytes(job.folder / SEEN, buffer.getvalue())
