"""The training loop of one student. Reads resident rows only; knows neither store nor teacher.

Legend: B batch rows, b labelled rows of a batch, S student width, K coordinates, D teacher dims, C classes, n rows of this run.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import timm.optim
import timm.scheduler
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tcs.augmentation.apply import augment
from tcs.augmentation.pixels import normalise
from tcs.criteria.base import Criterion, Setting, StepRows
from tcs.errors import ConfigError, DivergedError
from tcs.functional.coordinates import HashPlanes, unpack_bits
from tcs.gates import kept_after, period_ending
from tcs.losses import LOSSES, build_criteria, mimics, reads, reads_student_maps
from tcs.methods import PROBE_FROZEN, TRAINED
from tcs.probe import fit_ridge_targets
from tcs.recipe import Phase, Recipe, plan_phases
from tcs.runtime import seed_for
from tcs.stream import BatchPlan, TrainingRows, batch_positions, plan_batches
from tcs.student import Student, StudentOutput, pre_logits

REFIT_ROWS = 4096
REFIT_LEAST_PENALTY = (
    1e-2  # of the mean eigenvalue: larger weights on directions that are faint now blow up the steps after it
)
EVAL_BATCH = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe:
    """The ridge probe of the labelled rows' cached coordinates: weight_CK and bias_C float; zero outside the selection."""

    weight_CK: NDArray[np.floating[Any]]
    bias_C: NDArray[np.floating[Any]]
    active_k: NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a student trains against besides its rows: hash planes, the teacher-space probe, its own normalisation, its
    device, and the shapes (channels, height, width) of its maps where a loss reads them."""

    planes: HashPlanes | None
    probe: Probe | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device
    student_maps: tuple[tuple[int, int, int], ...] = ()


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
        if recipe.gates is not None:
            student.add_gates()
        self.criteria = build_criteria([term for phase in self.phases for term in phase.terms], self._setting()).to(
            around.device
        )
        self._enter(self.phases[0])

    def _setting(self) -> Setting:
        """What the losses are built for; their own seeds derive from `seed`."""
        rows, maps = self.rows, self.rows.teacher_maps
        return Setting(
            student_dims=self.student.width,
            classes=self.student.classifier.out_features,
            rows=len(rows.images_n3HW),
            seed=seed_for(self.recipe.seed, "losses"),
            teacher_nD=rows.teacher_nD,
            student_maps=self.around.student_maps,
            teacher_maps=tuple((stage.shape[3], stage.shape[1], stage.shape[2]) for stage in maps),
            planes=self.around.planes,
        )

    def _enter(self, phase: Phase) -> None:
        """Start a phase: refit the projection where it says so, and give it a fresh optimiser on the run's one schedule."""
        if phase.refit and self.step == phase.start:
            self._refit_projection()
        self.phase, self.plan = phase, self._plan_batches(phase)
        self.optimiser = timm.optim.create_optimizer_v2(
            _parameter_groups(self.student, self.criteria, self.recipe.weight_decay),
            opt=self.recipe.opt,
            lr=self.recipe.lr,
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
            mimics=mimics(phase.terms),
            separate_views=self.recipe.mimic_view == "clean",
            seed=self.recipe.seed,
        )
        if plan.rows < 2:
            raise ConfigError(
                f"a batch has {plan.rows} row(s); batch normalisation needs 2 or more. Use a larger --batch-size."
            )
        mimic_rows = plan.pool if self.recipe.mimic_view == "clean" else plan.rows
        if mimics(phase.terms) and mimic_rows < 2:
            raise ConfigError(
                f"a batch has {mimic_rows} row(s) in its clean view; losses that compare rows need 2 or more. Use a larger "
                "--batch-size or a smaller --labelled-share."
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
        values = self._loss_values(output, labelled, pool)
        loss = torch.stack([term.weight * values[term.name] for term in self.phase.terms]).sum()
        _refuse_non_finite(values, self.step, self.name)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.student.gates is not None and self.phase is self.phases[-1]:
            self.student.gates.observe()
        if self.recipe.clip_grad is not None:
            parameters = [*self.student.parameters(), *self.criteria.parameters()]
            torch.nn.utils.clip_grad_norm_(parameters, self.recipe.clip_grad)
        self.optimiser.step()
        self.step += 1
        self._close_gates()
        self.images_seen += self.plan.rows
        return {"loss": loss.item(), **{f"loss_{name}": value.item() for name, value in values.items()}}

    def _close_gates(self) -> None:
        """Close the weakest gates at the end of a period of the main phase."""
        gates, keep = self.student.gates, self.recipe.gates
        if gates is None or keep is None or self.phase is not self.phases[-1]:
            return
        period = period_ending(self.step, self.phase.start, self.phase.stop)
        if period is not None:
            gates.close_weakest(kept_after(period, len(gates.open_K), keep))

    def _forward(self, positions: Tensor, labelled: int) -> StudentOutput:
        images_B3HW = self.rows.images_n3HW[positions.to(self.rows.images_n3HW.device)]
        generator = torch.Generator().manual_seed(seed_for(self.recipe.seed, "augment", self.step))
        shown = augment(images_B3HW, self.recipe.padding, self.recipe.hflip, generator)
        if self.recipe.mimic_view == "clean":
            shown = torch.cat([shown[:labelled], images_B3HW[labelled:]])
        with _own_randomness(seed_for(self.recipe.seed, f"forward {self.name}", self.step), self.around.device):
            maps = len(self.rows.teacher_maps) if reads_student_maps(self.phase.terms) else 0
            output: StudentOutput = self.student(self.normalised(shown), maps=maps)
        return output

    def _loss_values(self, output: StudentOutput, labelled: Tensor, pool: Tensor) -> dict[str, Tensor]:
        """Each term's value, unweighted. Labelled rows come first in a batch; mimic losses read every row, or the pool rows
        alone where those are shown un-augmented."""
        count, total = len(labelled), len(labelled) + len(pool)
        first = count if self.recipe.mimic_view == "clean" else 0
        groups = {"labelled": slice(0, count), "mimic": slice(first, total)}
        positions = torch.cat([labelled, pool])
        used = {LOSSES[term.name].rows for term in self.phase.terms}
        needed = reads(self.phase.terms)
        rows = {name: self._step_rows(output, positions, groups[name], needed) for name in used}
        return {term.name: self.criteria[term.name](rows[LOSSES[term.name].rows]) for term in self.phase.terms}

    def _step_rows(self, output: StudentOutput, positions: Tensor, part: slice, needed: frozenset[str]) -> StepRows:
        """What the losses read of the rows `part` of a step."""
        place, rows = positions[part].to(self.around.device), self.rows

        def cached(name: str, values: Tensor | None) -> Tensor | None:
            return values[place] if name in needed and values is not None else None

        packed = cached("bits", rows.packed_nP)
        maps = rows.teacher_maps if "maps" in needed else ()
        return StepRows(
            logits_BC=output.logits_BC[part],
            features_BS=output.features_BS[part],
            z_BK=None if output.z_BK is None else output.z_BK[part],
            student_maps=tuple(stage[part] for stage in output.maps),
            labels_B=cached("labels", rows.labels_n),
            coordinates_BK=cached("coordinates", rows.coordinates_nK),
            bits_BH=None if packed is None else unpack_bits(packed),
            teacher_BD=cached("features", rows.teacher_nD),
            teacher_maps=tuple(stage[place].permute(0, 3, 1, 2) for stage in maps),
            teacher_logits_BC=cached("probe", rows.teacher_logits_nC),
            place_B=place,
        )

    def state(self) -> dict[str, Any]:
        """All that a later process needs to go on: plain values and tensors."""
        return {
            "step": self.step,
            "images_seen": self.images_seen,
            "student": self.student.state_dict(),
            "criteria": self.criteria.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "summary": self.summary,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state`, as if this process had run the steps before it."""
        self.step, self.images_seen, self.summary = state["step"], state["images_seen"], list(state["summary"])
        self._enter(next(phase for phase in self.phases if self.step <= phase.stop))
        self.student.load_state_dict(state["student"])
        self.criteria.load_state_dict(state["criteria"])
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


def _parameter_groups(student: Student, criteria: nn.ModuleDict, weight_decay: float) -> list[dict[str, Any]]:
    """No decay on biases, norms, the projection (design section 5: no weight decay on A, a) and what a loss excepts."""
    excepted = set() if student.projection is None else set(student.projection.parameters())
    for criterion in criteria.values():
        assert isinstance(criterion, Criterion)
        excepted |= set(criterion.undecayed())
    trained = [p for part in (student, criteria) for p in part.parameters() if p.requires_grad]
    plain = [parameter for parameter in trained if parameter.ndim < 2 or parameter in excepted]
    decayed = [parameter for parameter in trained if parameter.ndim >= 2 and parameter not in excepted]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


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
