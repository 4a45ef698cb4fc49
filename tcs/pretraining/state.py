"""The state that an unfinished pretraining goes on from: read, and held against the call before anything of it is used."""

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from tcs.checkpoint import load_resume
from tcs.errors import ArtefactError, shown
from tcs.schemas.check import require_schema
from tcs.schemas.runs import PretrainState

START_AGAIN = "delete it to start this teacher again"
SCHEDULED = ("lr", "initial_lr")  # of a group of parameters: what the step decides


def load_state(
    path: pathlib.Path, identity: Mapping[str, Any], steps_per_epoch: int, sound: Callable[[], Mapping[str, Any]]
) -> dict[str, Any]:
    """The state in `path`; ArtefactError where it is broken, of other settings (naming them), of a step that the call does not have, or of
    tensors that it does not have. `sound` gives network and optimiser of a run of the same settings after one update."""
    state = load_resume(path, START_AGAIN)
    require_schema(path, state, PretrainState, START_AGAIN)
    refuse_other(path, state["identity"], identity)
    _require_place(path, state, steps_per_epoch, steps_per_epoch * identity["epochs"])
    wanted = sound()
    odd = _odd(state["network"], wanted["network"], "network") or _odd_optimiser(
        state["optimizer"], wanted["optimizer"]
    )
    if odd is not None:
        raise ArtefactError(f"resume file {path} does not fit this teacher ({odd}); {START_AGAIN}.")
    return state


def refuse_other(path: pathlib.Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """ArtefactError, naming each difference, unless the file at `path` was made with the settings of this call."""
    there, here = ({key: _text(side.get(key)) for key in wanted} for side in (found, wanted))
    odd = [f"{key} {there[key][:80]} (now {here[key]})" for key in wanted if there[key] != here[key]]
    if odd:
        raise ArtefactError(
            f"{path} was made with {', '.join(odd)}; give the same settings, another --out, or --overwrite."
        )


def _text(value: Any) -> str:
    try:
        return json.dumps(value, sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        return "something that is no JSON"


def _require_place(path: pathlib.Path, state: Mapping[str, Any], steps_per_epoch: int, steps: int) -> None:
    """ArtefactError for a step behind the last, or one that the number of finished epochs belies."""
    step, epochs = state["step"], len(state["epochs"])
    if step > steps:
        raise ArtefactError(f"resume file {path} is of step {step:,}, and this teacher has {steps:,}; {START_AGAIN}.")
    if epochs != step // steps_per_epoch:
        raise ArtefactError(
            f"resume file {path} is of step {step:,} and tells of {epochs:,} finished epochs, which have {steps_per_epoch:,} steps each; "
            f"{START_AGAIN}."
        )


def _odd_optimiser(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """The first place at which an optimiser is another. Options that only one of the two has are those of another release of torch."""
    if found.keys() != wanted.keys():
        return f"optimiser has {_entries(found)} and must have {_entries(wanted)}"
    odd = _odd(found["state"], wanted["state"], "optimiser.state")
    if odd is not None:
        return odd
    groups, others = found["param_groups"], wanted["param_groups"]
    if not isinstance(groups, Sequence) or [type(group) for group in groups] != [dict] * len(others):
        return f"optimiser has {shown(groups)} for its groups of parameters"
    for number, (group, other) in enumerate(zip(groups, others, strict=True)):
        for name in other.keys() & group.keys() - set(SCHEDULED):
            if _text(group[name]) != _text(other[name]):
                return f"{name} of group {number} of the optimiser is {shown(group[name])} and must be {shown(other[name])}"
    return None if all("params" in group for group in groups) else "optimiser has a group without parameters"


def _odd(found: Any, wanted: Any, place: str) -> str | None:
    """The first place at which `found` has other entries than `wanted`, a tensor of another shape or type, or another kind of value."""
    if isinstance(wanted, Mapping):
        if not isinstance(found, Mapping) or found.keys() != wanted.keys():
            return f"{place} has {_entries(found)} and must have {_entries(wanted)}"
        parts = ((found[name], other, f"{place}.{name}") for name, other in wanted.items())
        return next((odd for odd in (_odd(*part) for part in parts) if odd is not None), None)
    there, here = _kind(found), _kind(wanted)
    return None if there == here else f"{place} is {there} and must be {here}"


def _entries(value: Any) -> str:
    if not isinstance(value, Mapping):
        return shown(value)
    return f"{len(value)} entries ({shown(next(iter(value), None))} first)"


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    return f"{len(value)} values" if isinstance(value, list) else type(value).__name__
