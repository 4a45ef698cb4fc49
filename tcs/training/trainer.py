"""The steps of one student. Reads batches and cached rows only; knows neither store nor teacher.

Legend: B batch rows, b those of this process, S student width, K coordinates, D teacher dims, C classes, n rows of this run.
"""

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tcs.augmentation.pixels import network_inputs
from tcs.config.train import TrainConfig
from tcs.criteria.base import Setting, StepRows
from tcs.criteria.losses import build_criteria, criterion_key, find_loss, reads_student_head, reads_student_maps
from tcs.criteria.terms import reads
from tcs.distributed.collectives import ALONE, Collectives
from tcs.probes.ridge import fit_ridge_targets
from tcs.runtime import seed_for
from tcs.students.backbone import measured_maps, pre_logits
from tcs.students.memory_layout import laid_out
from tcs.students.student import Student, StudentOutput, build_student, kept_after, normalisation, period_ending
from tcs.training.feed import Batch, Feed
from tcs.training.finite import FEATURES, GRADIENT, WEIGHTS, NotFiniteError, Watch
from tcs.training.jobs import Job
from tcs.training.optimisation import Averaged, Optimisation, all_frozen, freeze, own_randomness
from tcs.training.phases import Phase
from tcs.training.probe_start import install_probe
from tcs.training.rows import TrainingRows, changed_labels, head_of, step_rows
from tcs.training.views import cached_at

EVAL_BATCH = 256
REFIT_ROWS = 4096
# Of the mean eigenvalue: larger weights on directions that are faint now blow up the steps after it.
REFIT_LEAST_PENALTY = 1e-2


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a batch that goes through the student at once: its rows by place in the batch (B), on all processes, and
    the places of this process's rows among those it holds (b)."""

    rows_B: Tensor
    mine_b: Tensor


class Trainer:
    """One student, its phase and its step. Everything random is a pure function of (seed, purpose, step)."""

    def __init__(self, job: Job, rows: TrainingRows, device: torch.device, ranks: Collectives = ALONE) -> None:
        """Build the student of `job`, ready for step 0. ModelError where its images or losses do not suit it.

        `ranks` are the processes that share every batch. The feed comes with each step: it is opened once all students of a
        run are built and checked, and serves all of them.
        """
        self.job, self.rows, self.device, self.ranks = job, rows, device, ranks
        student = build_student(job.student_plan)
        mean, std = normalisation(student.backbone)
        self.mean, self.std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (mean, std))
        maps = len(rows.teacher_maps)
        student_maps = measured_maps(student.backbone, job.spec, job.size, maps) if maps else ()
        self.student = laid_out(student, device, channels_last=self.config.optimiser.channels_last)
        if self.config.optimiser.sync_bn:
            ranks.sync_batch_norm(student.backbone)
        self.step, self.images_seen = 0, 0
        self._changed_labels: Tensor | None = None
        install_probe(student, job.probe, job.method.classifier)
        if job.gates is not None:
            student.add_gates()
        self._frozen = freeze(student, self.config.optimiser.freeze)
        terms = [term for phase in job.phases for term in phase.terms]
        self.criteria = build_criteria(terms, self._setting(student_maps)).to(device)
        ranks.broadcast_state(student)
        ranks.broadcast_state(self.criteria)
        self.statistics = nn.ModuleList(
            own for own in student.modules() if getattr(own, "running_mean", None) is not None
        )
        self.averaged = Averaged(student, self.config.optimiser) if self.config.optimiser.model_ema else None
        if self.config.optimiser.torchcompile is not None:
            student.compile(backend=self.config.optimiser.torchcompile)
        self.watch = Watch(job.name, device)
        self._enter(job.phases[0])

    @property
    def config(self) -> TrainConfig:
        """The options of the run."""
        return self.job.config

    def _setting(self, student_maps: tuple[tuple[int, int, int], ...]) -> Setting:
        """What the losses are built for; their own seeds derive from `seed`."""
        rows, maps, planes = self.rows, self.rows.teacher_maps, self.job.planes
        return Setting(
            student_dims=self.student.width,
            classes=self.student.n_classes,
            rows=len(rows.labels_n),
            seed=seed_for(self.config.seed, "losses"),
            teacher_nD=None if rows.teacher_nD is None else rows.teacher_nD.flatten(0, -2),  # every view a row
            student_maps=student_maps,
            teacher_maps=tuple((stage.shape[-1], stage.shape[-3], stage.shape[-2]) for stage in maps),
            planes=None if planes is None else planes.to(self.device),
        )

    def _enter(self, phase: Phase) -> None:
        """Start a phase, with a fresh optimiser on the run's one schedule."""
        self.phase = phase
        self._groups = {find_loss(term.name).rows for term in phase.terms}
        self.optimisation = Optimisation(
            self.student, self.criteria, self.config.optimiser, self.job.steps, self.device
        )

    @property
    def final(self) -> Student:
        """The student to ship: the running average of its weights where one is kept."""
        return self.student if self.averaged is None else self.averaged.student

    @torch.no_grad()
    def refit_projection(self, feed: Feed) -> None:
        """Ridge regression of the cached coordinates on the student's features (clean or first view, at most 4,096 rows)."""
        assert self.student.projection is not None
        assert self.rows.coordinates_nK is not None
        total = len(self.rows.labels_n)
        generator = torch.Generator().manual_seed(seed_for(self.config.seed, "refit"))
        chosen = torch.randperm(total, generator=generator)[:REFIT_ROWS].sort().values
        features = [self.features(feed.clean(part)).cpu().numpy() for part in torch.split(chosen, EVAL_BATCH)]
        first = None if feed.views is None else feed.views.first(len(chosen)).to(self.device)
        targets_nK = cached_at(self.rows.coordinates_nK, chosen.to(self.device), first).cpu().numpy()
        weight_KS, bias_K = fit_ridge_targets(np.concatenate(features), targets_nK, REFIT_LEAST_PENALTY)
        self.student.projection.weight.copy_(torch.as_tensor(weight_KS))
        self.student.projection.bias.copy_(torch.as_tensor(bias_K))
        self.ranks.broadcast_state(self.student.projection)

    @torch.no_grad()
    def features(self, images_b3HW: Tensor) -> Tensor:
        """Pre-logits (b, S) float32 of uint8 images, in evaluation mode. NotFiniteError blames the step before."""
        self.student.eval()
        features_bS = pre_logits(self.student.backbone, self.normalised(images_b3HW)).float()
        broken = features_bS[~torch.isfinite(features_bS)]
        if len(broken):
            raise NotFiniteError(self.job.name, FEATURES, float(broken[0]), max(0, self.step - 1))
        return features_bS

    @torch.no_grad()
    def require_finite_weights(self) -> None:
        """NotFiniteError, which blames the step before, where the last update left weights or statistics that are not finite: no loss
        has seen them."""
        for student in {id(found): found for found in (self.student, self.final)}.values():
            for value in student.state_dict().values():
                broken = value[~torch.isfinite(value)]  # of whole numbers none
                if len(broken):
                    raise NotFiniteError(self.job.name, WEIGHTS, float(broken[0]), max(0, self.step - 1))

    def normalised(self, images_b3HW: Tensor) -> Tensor:
        """What the student is fed for uint8 images: normalised float32, in its memory layout, on its device."""
        is_last = self.config.optimiser.channels_last
        return network_inputs(images_b3HW.to(self.device), self.mean, self.std, channels_last=is_last)

    def train_step(self, feed: Feed, batch: Batch) -> None:
        """One step on `batch`. NotFiniteError, before the update on a CPU, where a loss or the gradient is not finite."""
        assert batch.step == self.step
        if self.step >= self.phase.stop:
            self._enter(self.job.phases[self.job.phases.index(self.phase) + 1])
        if self.phase.refit and self.step == self.phase.start:
            self.refit_projection(feed)
        self._train_mode()
        self.optimisation.begin(self.step)
        values = self._backward(batch)
        norm = self.optimisation.gradient_norm(self._join_gradients, self._see_gradients)
        self.watch.put(self.step, values if self.optimisation.scales else values | {GRADIENT: norm})
        with own_randomness(seed_for(self.config.seed, f"update {self.job.name}", self.step), self.device):
            self.optimisation.move(norm)  # a few optimisers draw
        # At every step, so that no result depends on when a state was saved or the student was looked at.
        self.ranks.average_buffers(self.statistics)
        self.step += 1
        self.images_seen += len(batch.positions_B)
        self._close_gates()
        if self.averaged is not None:
            self.averaged.update(self.student, self.step)

    def _train_mode(self) -> None:
        self.student.train()
        for part in self._frozen:
            part.eval()

    def _backward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss and its terms (weighted sums over the parts of the batch), their gradients added to the parameters."""
        total = {term.name: torch.zeros((), device=self.device) for term in self.phase.terms}
        classes, smoothing = self.student.n_classes, self.config.augment.smoothing
        self._changed_labels = changed_labels(batch, self.rows.labels_n, classes, smoothing)
        trains = False
        for number, part in enumerate(_parts(batch, self.config.optimiser.grad_accum_steps, self.ranks)):
            values = self._loss_values(self._forward(batch, part, number), batch, part)
            loss = torch.stack([term.weight * values[term.name] for term in self.phase.terms]).sum()
            if loss.requires_grad:
                self.optimisation.backward(loss)
                trains = True
            total = {name: value + values[name].detach() for name, value in total.items()}
        if not trains:
            raise all_frozen(self.config.optimiser.freeze, self.phase.name)
        loss = torch.stack([term.weight * total[term.name] for term in self.phase.terms]).sum()
        return {**{f"loss_{name}": value for name, value in total.items()}, "loss": loss}

    def _join_gradients(self) -> None:
        """Make the gradients those of all processes."""
        self.ranks.sum_gradients(self.student.parameters())
        self.ranks.average_gradients(self.criteria.parameters())

    def _see_gradients(self) -> None:
        """Let the gates see how much they matter."""
        if self.student.gates is not None and self.phase is self.job.phases[-1]:
            self.student.gates.observe()

    def _close_gates(self) -> None:
        """Close the weakest gates at the end of a period of the main phase."""
        gates, keep = self.student.gates, self.job.gates
        if gates is None or keep is None or self.phase is not self.job.phases[-1]:
            return
        period = period_ending(self.step, self.phase.start, self.phase.stop)
        if period is not None:
            gates.close_weakest(kept_after(period, len(gates.open_K), keep))

    def _forward(self, batch: Batch, part: Part, number: int) -> StudentOutput:
        """What the student says of the rows of `part`, on all processes: in float32, in the order of the batch."""
        ranks = self.ranks
        own = f" part {number} rank {ranks.rank}" if number or ranks.rank else ""
        seed = seed_for(self.config.seed, f"forward {self.job.name}{own}", self.step)
        with own_randomness(seed, self.device), self.optimisation.precision():
            maps = len(self.rows.teacher_maps) if reads_student_maps(self.phase.terms) else 0
            output: StudentOutput = self.student(self.normalised(batch.shown_b3HW[part.mine_b]), maps=maps)
        return output.with_tensors(ranks.gather_rows(*map(Tensor.float, output.tensors()), total=len(part.rows_B)))

    def _loss_values(self, output: StudentOutput, batch: Batch, part: Part) -> dict[str, Tensor]:
        """Each term's share of its value, unweighted. Labelled rows come first in a batch; mimic losses read every row, or
        the pool rows alone where those are shown un-augmented."""
        first = batch.labelled if self.config.mimic_view == "clean" else 0
        groups = {"labelled": (0, batch.labelled), "mimic": (first, len(batch.positions_B))}
        rows = {name: self._group(output, batch, part, *groups[name]) for name in self._groups}
        values = {}
        for term in self.phase.terms:
            found, share = rows[find_loss(term.name).rows]
            if found is None:  # accumulation: this part has none of these rows
                values[term.name] = 0.0 * output.features_BS.sum()
            else:
                value = self.criteria[criterion_key(term.name)](found)
                values[term.name] = value if share == 1 else share * value
        return values

    def _group(
        self, output: StudentOutput, batch: Batch, part: Part, start: int, stop: int
    ) -> tuple[StepRows | None, float]:
        """What the losses read of the rows [start, stop) of a batch that are in `part`, and which share of them that is."""
        at = torch.nonzero((part.rows_B >= start) & (part.rows_B < stop)).flatten()
        if len(at) == 0:
            return None, 0.0
        span = slice(int(at[0]), int(at[-1]) + 1)
        inside_B = part.rows_B[span]
        place_B = batch.positions_B[inside_B].to(self.device)
        view_B = None if batch.view_B is None else batch.view_B[inside_B].to(self.device)
        rows = step_rows(
            output.with_tensors([values[span] for values in output.tensors()]),
            self.rows,
            place_B,
            reads(self.phase.terms),
            view_B,
            head_of(self.student) if reads_student_head(self.phase.terms) else None,
        )
        if self._changed_labels is not None and stop == batch.labelled:
            soft_BC = self._changed_labels[inside_B.to(self.device)]
            rows = dataclasses.replace(rows, soft_labels_BC=soft_BC)
        return rows, len(at) / (stop - start)

    def state(self) -> dict[str, Any]:
        """All that a later process needs to go on: plain values and tensors."""
        self.watch.settle()
        return {
            "step": self.step,
            "images_seen": self.images_seen,
            "student": self.student.state_dict(),
            "criteria": self.criteria.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.student.state_dict(),
            **self.optimisation.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state`, as if this process had run the steps before it."""
        self.step, self.images_seen = state["step"], state["images_seen"]
        self._enter(next(phase for phase in self.job.phases if self.step <= phase.stop))
        self.student.load_state_dict(state["student"])
        self.criteria.load_state_dict(state["criteria"])
        if self.averaged is not None:
            self.averaged.student.load_state_dict(state["averaged"])
        self.optimisation.load_state(state)


def _parts(batch: Batch, count: int, ranks: Collectives) -> list[Part]:
    """The batch in `count` parts: every count-th of each process's rows, so that each part has its share of labelled rows."""
    rows_B, mine_b = torch.arange(len(batch.positions_B)), torch.arange(len(batch.shown_b3HW))
    return [
        Part(rows_B[(rows_B // ranks.world_size) % count == number], mine_b[number::count]) for number in range(count)
    ]
