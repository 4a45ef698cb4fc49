"""How the weights of one student move: parameter groups, optimiser, schedule, loss scale and running average.

Everything is timm's or torch's; here is only what goes together, in which order, and what of it is saved; and from which seed
dropout, drop-path and a few optimisers draw inside a step.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import timm.optim
import timm.scheduler.scheduler
import timm.utils
import torch
from timm.utils.clip_grad import dispatch_clip_grad
from torch import Tensor, nn

from tcs.config.optimiser import OptimiserConfig
from tcs.criteria.base import Criterion
from tcs.errors import ModelError
from tcs.students.student import Student


@contextlib.contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Dropout, drop-path and optimisers draw from the student's own seed, and the process's generators stay as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else [], device_type="cuda"):
        # torch.manual_seed asks every kind of device, walks the stack for one that is not there, and seeds GPUs that nobody saved.
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            index = torch.cuda.current_device() if device.index is None else device.index
            torch.cuda.default_generators[index].manual_seed(seed)
        elif device.type != "cpu":
            torch.manual_seed(seed)
        yield


class Optimisation:
    """The optimiser of one phase of a student, on the one schedule of the run. Steps count updates of the weights."""

    def __init__(
        self, student: Student, criteria: nn.ModuleDict, config: OptimiserConfig, steps: int, device: torch.device
    ) -> None:
        self.config, self._device = config, device
        self._parameters = [p for part in (student, criteria) for p in part.parameters() if p.requires_grad]
        self.optimiser = make_optimiser(parameter_groups(student, criteria, config), config)
        self._schedule = make_schedule(self.optimiser, config, steps)
        self._scaler = torch.amp.GradScaler(device.type, enabled=config.amp and config.amp_dtype == "float16")

    @property
    def lr(self) -> float:
        """The learning rate of the layers with the highest one."""
        return float(max(group["lr"] for group in self.optimiser.param_groups))

    def begin(self, step: int) -> None:
        """Set the learning rate of `step` and forget the gradients of the step before."""
        self._schedule.step_update(step)
        self.optimiser.zero_grad(set_to_none=True)

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """The precision that the student's forward pass runs in."""
        if not self.config.amp:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, dtype=getattr(torch, self.config.amp_dtype))

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss`, scaled where float16 would lose them."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def gradient_norm(self, join: Callable[[], None], look: Callable[[], None]) -> Tensor:
        """Let `join` make the gradients those of all processes, unscale them, let `look` see them, and return their norm.

        Where float16 overflowed it is not finite, and that is no divergence: `move` leaves the weights and lowers the scale.
        What overflowed in one process has by then done so in all.
        """
        join()
        self._scaler.unscale_(self.optimiser)
        look()
        return torch.nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])

    def move(self, norm: Tensor) -> None:
        """Clip the gradients of this norm, and move the weights."""
        if self.config.clip_grad:
            self._clip(norm)
        self._scaler.step(self.optimiser)
        self._scaler.update()

    def _clip(self, norm: Tensor) -> None:
        assert self.config.clip_grad
        if self.config.clip_mode == "norm":
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self.config.clip_grad, norm)
        else:
            dispatch_clip_grad(self._parameters, self.config.clip_grad, self.config.clip_mode)

    @property
    def scales(self) -> bool:
        """Whether losses are scaled, so that an overflow of gradients is an ordinary event."""
        return self._scaler.is_enabled()

    def state(self) -> dict[str, Any]:
        """What a later process needs: optimiser and loss scale. The schedule is a function of the step."""
        return {"optimiser": self.optimiser.state_dict(), "scaler": self._scaler.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.optimiser.load_state_dict(state["optimiser"])
        self._scaler.load_state_dict(state["scaler"])


def make_optimiser(groups: list[dict[str, Any]], config: OptimiserConfig) -> torch.optim.Optimizer:
    """timm's optimiser of these groups of parameters, with the options that only some have where they are given."""
    given = {"eps": config.opt_eps, "betas": config.opt_betas}
    extras = {name: value for name, value in given.items() if value is not None}
    optimiser: torch.optim.Optimizer = timm.optim.create_optimizer_v2(
        groups, opt=config.opt, lr=config.lr, momentum=config.momentum, **extras
    )
    return optimiser


def make_schedule(
    optimiser: torch.optim.Optimizer, config: OptimiserConfig, steps: int
) -> timm.scheduler.scheduler.Scheduler:
    """timm's schedule with a step in the place of an epoch."""
    schedule, _ = timm.scheduler.create_scheduler_v2(
        optimiser,
        sched="step" if config.sched == "constant" else config.sched,  # older releases of timm have no constant one
        num_epochs=steps,
        decay_epochs=config.decay_steps or steps,
        decay_milestones=list(config.decay_milestones),
        decay_rate=1.0 if config.sched == "constant" else config.decay_rate,
        min_lr=config.min_lr,
        warmup_lr=config.lr / 100 if config.warmup_lr is None else config.warmup_lr,
        warmup_epochs=round(config.warmup_share * steps),
        step_on_epochs=False,
        updates_per_epoch=1,
    )
    assert schedule is not None
    return schedule


def parameter_groups(student: Student, criteria: nn.ModuleDict, config: OptimiserConfig) -> list[dict[str, Any]]:
    """No decay on biases, norms, the projection (design section 5: no weight decay on A, a) and what a loss excepts.

    With `layer_decay` the backbone's layers learn the slower the further they are from the head, as timm groups them.
    """
    excepted = set() if student.projection is None else set(student.projection.parameters())
    for criterion in criteria.values():
        assert isinstance(criterion, Criterion)
        excepted |= set(criterion.undecayed())
    if config.layer_decay is None:
        return _two_groups([*student.parameters(), *criteria.parameters()], excepted, config.weight_decay)
    layers = timm.optim.param_groups_layer_decay(
        student.backbone, weight_decay=config.weight_decay, layer_decay=config.layer_decay
    )
    inside = {parameter for group in layers for parameter in group["params"]}
    beside = [parameter for part in (student, criteria) for parameter in part.parameters() if parameter not in inside]
    return [*layers, *_two_groups(beside, excepted, config.weight_decay)]


def _two_groups(
    parameters: Iterable[nn.Parameter], excepted: set[nn.Parameter], weight_decay: float
) -> list[dict[str, Any]]:
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    plain = [parameter for parameter in trained if parameter.ndim < 2 or parameter in excepted]
    decayed = [parameter for parameter in trained if parameter.ndim >= 2 and parameter not in excepted]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


class Averaged:
    """The running average of a student's weights and buffers (timm's ModelEmaV3), for what is saved in the end."""

    def __init__(self, student: Student, config: OptimiserConfig) -> None:
        self._average = timm.utils.ModelEmaV3(student, decay=config.model_ema_decay, use_warmup=config.model_ema_warmup)

    @property
    def student(self) -> Student:
        """The averaged student."""
        averaged = self._average.module
        assert isinstance(averaged, Student)
        return averaged

    def update(self, student: Student, step: int) -> None:
        """Take the weights after `step` into the average."""
        self._average.update(student, step)


def freeze(student: Student, names: Iterable[str]) -> tuple[nn.Module, ...]:
    """Stop the training of parts of the backbone; returns them, because their norms must stay in evaluation mode.

    A name is the path of a module in timm's model, such as layer1, or `backbone` for all of it. ModelError for any other.
    """
    frozen = []
    for name in names:
        try:
            part = student.backbone if name == "backbone" else student.backbone.get_submodule(name)
        except AttributeError:
            parts = ", ".join(child for child, _ in student.backbone.named_children())
            raise ModelError(
                f"--freeze is '{name}', which is no part of the student; name backbone, or one of {parts}."
            ) from None
        part.requires_grad_(False)
        frozen.append(part)
    return tuple(frozen)


def all_frozen(names: Iterable[str], phase: str) -> ModelError:
    """The error for a phase whose losses reach nothing that is trained."""
    return ModelError(
        f"--freeze {' and '.join(names)} leaves nothing of the student that the losses of the {phase} phase train; freeze less."
    )
