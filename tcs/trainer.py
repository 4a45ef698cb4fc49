"""The training loop of one student. Reads resident rows only; knows neither store nor teacher.

Legend: B batch rows, b labelled rows of a batch, S student width, K coordinates, H hash bits, C classes, n rows of this run.
"""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import timm.optim
import timm.scheduler
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcs.augment import augment, normalise
from tcs.checkpoint import RESUME, load_resume, save_resume
from tcs.errors import ArtefactError, ConfigError, DivergedError
from tcs.interrupt import stop_requests
from tcs.losses import LOSSES, HashPlanes, LossInputs, LossTerm, reads, unpack_bits
from tcs.methods import PROBE_FROZEN, TRAINED
from tcs.probe import fit_ridge_targets
from tcs.recipe import Phase, Recipe, plan_phases
from tcs.runtime import Bar, resident_mib, seed_for
from tcs.stream import BatchPlan, TrainingRows, batch_positions, plan_batches
from tcs.student import Student, StudentOutput, pre_logits

REFIT_ROWS = 4096
REFIT_LEAST_PENALTY = (
    1e-2  # of the mean eigenvalue: larger weights on directions that are faint now blow up the steps after it
)
EVAL_BATCH = 256
LOG_POINTS = 50


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe:
    """The ridge probe of the labelled rows' cached coordinates: weight_CK and bias_C float; zero outside the selection."""

    weight_CK: NDArray[np.floating[Any]]
    bias_C: NDArray[np.floating[Any]]
    active_k: NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a student trains against besides its rows: hash planes, the teacher-space probe, its own normalisation, its device."""

    planes: HashPlanes | None
    probe: Probe | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run cost. `wall_seconds` are those of this process: a resumed run counts its last part only."""

    wall_seconds: float
    images_seen: int
    peak_mib: float
    summary: tuple[dict[str, Any], ...]


class Trainer:
    """One student, its phase and its step. Everything random is a pure function of (seed, purpose, step)."""

    def __init__(self, student: Student, rows: TrainingRows, recipe: Recipe, around: Surroundings, name: str) -> None:
        self.recipe, self.rows, self.around, self.name = recipe, rows, around, name
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.student = student.to(device=around.device, memory_format=layout)  # type: ignore[call-overload]
        self.mean = torch.tensor(around.mean, device=around.device).view(3, 1, 1)
        self.std = torch.tensor(around.std, device=around.device).view(3, 1, 1)
        self.phases = plan_phases(recipe)
        self.step, self.images_seen = 0, 0
        self.summary: list[dict[str, Any]] = []
        _install_probe(student, around.probe, recipe.method.classifier)
        self._enter(self.phases[0])

    def _enter(self, phase: Phase) -> None:
        """Start a phase: refit the projection where it says so, and give it a fresh optimiser on the run's one schedule."""
        if phase.refit and self.step == phase.start:
            self._refit_projection()
        self.phase, self.plan = phase, self._plan_batches(phase)
        self.optimiser = timm.optim.create_optimizer_v2(
            _parameter_groups(self.student, self.recipe.weight_decay), opt=self.recipe.opt, lr=self.recipe.lr
        )
        self.scheduler = timm.scheduler.CosineLRScheduler(
            self.optimiser,
            t_initial=self.recipe.steps,
            warmup_t=round(self.recipe.warmup_share * self.recipe.steps),
            warmup_lr_init=self.recipe.lr / 100,
            warmup_prefix=False,
            t_in_epochs=False,
        )

    def _plan_batches(self, phase: Phase) -> BatchPlan:
        needed = reads(phase.terms)
        plan = plan_batches(
            self.recipe.batch_size,
            self.recipe.labelled_share,
            labelled_rows=len(self.rows.labelled_m),
            pool_rows=len(self.rows.images_n3HW),
            reads_labels="labels" in needed,
            mimics=bool(needed - {"labels"}),
            separate_views=self.recipe.mimic_view == "clean",
            seed=self.recipe.seed,
        )
        if plan.rows < 2:
            raise ConfigError(
                f"a batch has {plan.rows} row(s); batch normalisation needs 2 or more. Use a larger --batch-size."
            )
        return plan

    @torch.no_grad()
    def _refit_projection(self) -> None:
        """Ridge regression of the cached coordinates on the student's features (clean view, at most 4,096 rows)."""
        assert self.student.projection is not None
        assert self.rows.coordinates_nK is not None
        total = len(self.rows.images_n3HW)
        generator = torch.Generator().manual_seed(seed_for(self.recipe.seed, "refit"))
        chosen = torch.randperm(total, generator=generator)[:REFIT_ROWS].sort().values
        self.student.eval()
        features = [
            pre_logits(self.student.backbone, self._clean(part)).float().cpu().numpy()
            for part in torch.split(chosen, EVAL_BATCH)
        ]
        targets_nK = self.rows.coordinates_nK[chosen.to(self.around.device)].cpu().numpy()
        weight_KS, bias_K = fit_ridge_targets(np.concatenate(features), targets_nK, REFIT_LEAST_PENALTY)
        self.student.projection.weight.copy_(torch.as_tensor(weight_KS))
        self.student.projection.bias.copy_(torch.as_tensor(bias_K))

    def normalised(self, images_B3HW: Tensor) -> Tensor:
        """What the student is fed for uint8 images: normalised float32, in its memory layout, on its device."""
        inputs = normalise(images_B3HW.to(self.around.device), self.mean, self.std)
        return inputs.contiguous(memory_format=torch.channels_last) if self.recipe.channels_last else inputs

    def _clean(self, positions: Tensor) -> Tensor:
        return self.normalised(self.rows.images_n3HW[positions.to(self.rows.images_n3HW.device)])

    def train_step(self) -> dict[str, float]:
        """One step of the current phase; the loss and its terms. DivergedError, before the update, where it is not finite."""
        if self.step >= self.phase.stop:
            self._enter(self.phases[self.phases.index(self.phase) + 1])
        self.student.train()
        self.scheduler.step_update(self.step)
        labelled, pool = batch_positions(self.plan, self.rows.labelled_m, self.step)
        output = self._forward(torch.cat([labelled, pool]), len(labelled))
        values = _loss_values(self.phase.terms, self._loss_inputs(output, labelled, pool))
        loss = torch.stack([term.weight * values[term.name] for term in self.phase.terms]).sum()
        _refuse_non_finite(values, self.step, self.name)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.recipe.clip_grad is not None:
            torch.nn.utils.clip_grad_norm_(self.student.parameters(), self.recipe.clip_grad)
        self.optimiser.step()
        self.step += 1
        self.images_seen += self.plan.rows
        return {"loss": loss.item(), **{f"loss_{name}": value.item() for name, value in values.items()}}

    def _forward(self, positions: Tensor, labelled: int) -> StudentOutput:
        images_B3HW = self.rows.images_n3HW[positions.to(self.rows.images_n3HW.device)]
        generator = torch.Generator().manual_seed(seed_for(self.recipe.seed, "augment", self.step))
        shown = augment(images_B3HW, self.recipe.padding, self.recipe.hflip, generator)
        if self.recipe.mimic_view == "clean":
            shown = torch.cat([shown[:labelled], images_B3HW[labelled:]])
        with _own_randomness(seed_for(self.recipe.seed, f"forward {self.name}", self.step), self.around.device):
            output: StudentOutput = self.student(self.normalised(shown))
        return output

    def _loss_inputs(self, output: StudentOutput, labelled: Tensor, pool: Tensor) -> LossInputs:
        """Labelled rows first; mimic losses read every row, or the pool rows alone where those are shown un-augmented."""
        first = len(labelled) if self.recipe.mimic_view == "clean" else 0
        mimic = torch.cat([labelled, pool])[first:].to(self.around.device)
        needed, rows = reads(self.phase.terms), self.rows
        reads_bits = "bits" in needed and rows.packed_nP is not None
        return LossInputs(
            logits_BC=output.logits_BC[: len(labelled)],
            labels_B=rows.labels_n[labelled.to(rows.labels_n.device)],
            z_BK=None if output.z_BK is None else output.z_BK[first:],
            coordinates_BK=None if rows.coordinates_nK is None else rows.coordinates_nK[mimic],
            bits_BH=unpack_bits(rows.packed_nP[mimic]) if reads_bits and rows.packed_nP is not None else None,
            planes=self.around.planes,
        )

    def state(self) -> dict[str, Any]:
        """All that a later process needs to go on: plain values and tensors."""
        return {
            "step": self.step,
            "images_seen": self.images_seen,
            "student": self.student.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "summary": self.summary,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state`, as if this process had run the steps before it."""
        self.step, self.images_seen, self.summary = state["step"], state["images_seen"], list(state["summary"])
        self._enter(next(phase for phase in self.phases if self.step <= phase.stop))
        self.student.load_state_dict(state["student"])
        self.optimiser.load_state_dict(state["optimiser"])


def _install_probe(student: Student, probe: Probe | None, classifier: str) -> None:
    if probe is not None:
        student.select(torch.as_tensor(probe.active_k))
    if classifier == TRAINED:
        return
    assert probe is not None
    with torch.no_grad():
        student.classifier.weight.copy_(torch.as_tensor(probe.weight_CK))
        student.classifier.bias.copy_(torch.as_tensor(probe.bias_C))
    student.classifier.requires_grad_(classifier != PROBE_FROZEN)


def _parameter_groups(student: Student, weight_decay: float) -> list[dict[str, Any]]:
    """No decay on biases, norms and the projection (design section 5: no weight decay on A, a)."""
    projection = set() if student.projection is None else set(student.projection.parameters())
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    plain = [parameter for parameter in trained if parameter.ndim < 2 or parameter in projection]
    decayed = [parameter for parameter in trained if parameter.ndim >= 2 and parameter not in projection]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def _loss_values(terms: tuple[LossTerm, ...], inputs: LossInputs) -> dict[str, Tensor]:
    return {term.name: LOSSES[term.name].call(inputs) for term in terms}


def _refuse_non_finite(values: dict[str, Tensor], step: int, name: str) -> None:
    for term, value in values.items():
        if not torch.isfinite(value):
            raise DivergedError(
                f"student {name}: loss '{term}' is {value.item()} at step {step}; lower --lr and train again."
            )


@contextlib.contextmanager
def _own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Dropout and drop-path draw from the student's own seed, and the process's generators stay as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else [], device_type="cuda"):
        torch.manual_seed(seed)
        yield


def train_student(trainer: Trainer, bar: Bar, folder: pathlib.Path | None, fingerprint: str, every: int) -> Outcome:
    """Run what is left of a student's steps and return the cost.

    With a `folder` the state is saved there `every` so many steps and on Ctrl-C or SIGTERM, and an earlier state of the
    same `fingerprint` is taken up; on CPU with the same thread count the result then is the same bit for bit.
    """
    if folder is not None and (folder / RESUME).exists():
        _resume(trainer, folder / RESUME, fingerprint)
        bar.advance(trainer.step)
    started, first_image, peak_mib = time.perf_counter(), trainer.images_seen, 0.0
    interval = max(1, trainer.recipe.steps // LOG_POINTS)
    if trainer.around.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(trainer.around.device)
    with stop_requests() as stop:
        while trainer.step < trainer.recipe.steps:
            losses = trainer.train_step()
            bar.advance(1, f"loss {losses['loss']:.3f}")
            if trainer.step % interval == 0 or trainer.step == trainer.recipe.steps:
                peak_mib = max(peak_mib, _memory_mib(trainer.around.device))
                rate = (trainer.images_seen - first_image) / (time.perf_counter() - started)
                trainer.summary.append(_summary_row(trainer, losses, rate))
            if folder is not None and (trainer.step % every == 0 or stop.requested):
                save_resume(folder / RESUME, trainer.state() | {"fingerprint": fingerprint})
            if stop.requested:
                stop.leave()
    return Outcome(
        wall_seconds=time.perf_counter() - started,
        images_seen=trainer.images_seen,
        peak_mib=peak_mib,
        summary=tuple(trainer.summary),
    )


def _summary_row(trainer: Trainer, losses: dict[str, float], rate: float) -> dict[str, Any]:
    learning_rate = trainer.optimiser.param_groups[0]["lr"]
    where = {"step": trainer.step, "phase": trainer.phase.name, "images_seen": trainer.images_seen, "lr": learning_rate}
    return where | losses | {"images_per_s": round(rate, 1)}


def _resume(trainer: Trainer, path: pathlib.Path, fingerprint: str) -> None:
    state = load_resume(path)
    if state.pop("fingerprint", None) != fingerprint:
        raise ArtefactError(f"resume file {path} belongs to another configuration; use another --out, or --overwrite.")
    trainer.load_state(state)


def _memory_mib(device: torch.device) -> float:
    """Peak of the device's allocator on CUDA; on CPU the resident memory of the process now."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else resident_mib()
