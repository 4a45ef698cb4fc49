"""The state of an unfinished teacher with a part of it changed: one line that says which, and nothing is taken up."""

import copy
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import torch

import tcs
from tcs.checkpoint import load_resume, save_resume
from tcs.config.pretrain import SimclrConfig
from tcs.errors import ArtefactError
from tcs.pretraining.loop import Pretraining

CONFIG = SimclrConfig(
    model_kwargs={"layers": (1, 1, 1, 1), "channels": (4, 4, 8, 8)},
    img_size=16,
    epochs=3,
    batch_size=4,
    projection_dims=4,
)
IDENTITY = {"epochs": 3, "lr": CONFIG.lr, "image_digest": "0"}
STEPS_PER_EPOCH = 2
State = dict[str, Any]


def begun(config: SimclrConfig = CONFIG) -> Pretraining:
    return Pretraining(config, IDENTITY, torch.device("cpu"))


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> State:
    """What a run has saved after three of its six updates."""
    run = begun()
    run.network.train()
    for step in range(3):
        views_BVCHW = torch.full((4, 2, 3, 16, 16), step, dtype=torch.uint8).random_(
            generator=torch.Generator().manual_seed(step)
        )
        run.train_step(views_BVCHW, STEPS_PER_EPOCH)
    path = tmp_path_factory.mktemp("state") / "teacher.resume.pt"
    run.save(path)
    return load_resume(path)


def moments(state: State, number: int = 0) -> State:
    return state["optimizer"]["state"][number]  # type: ignore[no-any-return]


def first(state: State) -> str:
    return next(iter(state["network"]))


def test_what_was_saved_is_taken_up_and_is_sound(state: State, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "teacher.resume.pt"
    save_resume(path, state)
    run = begun()
    run.load(path, STEPS_PER_EPOCH)
    run.save(tmp_path / "again.resume.pt")
    again = load_resume(tmp_path / "again.resume.pt")
    assert all(torch.equal(again["network"][name], tensor) for name, tensor in state["network"].items())
    assert torch.equal(moments(again)["exp_avg"], moments(state)["exp_avg"])
    assert [again[name] for name in ("step", "epochs", "sums")] == [state[name] for name in ("step", "epochs", "sums")]
    assert (run.step, len(run.epochs)) == (3, 1)
    found = tcs.verify(path)
    assert (found.kind, found.problems) == ("the state of an unfinished teacher", ())


def _set(name: str, value: Any) -> Callable[[State], object]:
    return lambda state: state.update({name: value})


def _without(name: str) -> Callable[[State], object]:
    return lambda state: state.pop(name)


TYPES: dict[str, tuple[Callable[[State], object], str]] = {
    "no identity": (_without("identity"), "missing required field `identity`"),
    "no network": (_without("network"), "missing required field `network`"),
    "no optimiser": (_without("optimizer"), "missing required field `optimizer`"),
    "no step": (_without("step"), "missing required field `step`"),
    "step of text": (_set("step", "3"), r"Expected `int`, got `str` - at `\$\.step`\), found 3"),
    "no step made": (_set("step", 0), r"`int` >= 1 - at `\$\.step`\), found 0"),
    "tensor of steps": (_set("step", torch.tensor(3)), r"at `\$\.step`"),
    "epochs of one": (_set("epochs", [[1.0]]), r"length >= 2 - at `\$\.epochs\[.*\]`"),
    "sums of text": (_set("sums", ["a", "b"]), r"at `\$\.sums\[.*\]`"),
    "network a list": (_set("network", []), r"Expected `object`, got `array` - at `\$\.network`"),
}
OTHERS: dict[str, tuple[Callable[[State], object], str]] = {
    "other settings": (
        lambda state: state["identity"].update(lr=0.5),
        r"was made with lr 0\.5 \(now 0\.001\); give the same settings, another --out, or --overwrite",
    ),
    "settings of tensors": (
        lambda state: state["identity"].update(lr=torch.zeros(2)),
        r"was made with lr something that is no JSON \(now 0\.001\); give the same",
    ),
    "behind the end": (_set("step", 7), "is of step 7, and this teacher has 6; delete it to start this teacher again"),
    "another epoch": (
        _set("step", 5),
        "is of step 5 and tells of 1 finished epochs, which have 2 steps each; delete it",
    ),
    "a weight too few": (
        lambda state: state["network"].pop(first(state)),
        r"\(network has \d+ entries \(.* first\) and must have \d+",
    ),
    "another shape": (
        lambda state: state["network"].update({first(state): torch.zeros(2, 3)}),
        r"\(network\.0\..* is float32 of shape \(2, 3\) and must be float32 of shape \(",
    ),
    "another type": (
        lambda state: state["network"].update({first(state): state["network"][first(state)].double()}),
        r"is float64 of shape .* and must be float32",
    ),
    "an empty optimiser": (
        lambda state: state["optimizer"].update(state={}),
        r"\(optimiser\.state has 0 entries \(None first\) and must have \d+ entries \(0 first\)\); delete it to start",
    ),
    "no groups": (
        lambda state: state["optimizer"].pop("param_groups"),
        r"\(optimiser has 1 entries \(state first\) and must have 2",
    ),
    "groups of text": (
        lambda state: state["optimizer"].update(param_groups="ab"),
        "optimiser has ab for its groups of parameters",
    ),
    "a group too few": (lambda state: state["optimizer"]["param_groups"].pop(), "for its groups of parameters"),
    "no parameters": (
        lambda state: state["optimizer"]["param_groups"][0].pop("params"),
        "has a group without parameters",
    ),
    "other decay": (
        lambda state: state["optimizer"]["param_groups"][-1].update(weight_decay=9.0),
        r"weight_decay of group \d of the optimiser is 9\.0 and must be ",
    ),
    "no moment": (lambda state: moments(state).pop("exp_avg"), r"\(optimiser\.state\.0 has 2 entries"),
    "a moment of another shape": (
        lambda state: moments(state).update(exp_avg=torch.zeros(3)),
        r"optimiser\.state\.0\.exp_avg is float32 of shape \(3,\) and must be",
    ),
    "a moment of text": (
        lambda state: moments(state).update(exp_avg="x"),
        r"optimiser\.state\.0\.exp_avg is str and must be float32",
    ),
}


@pytest.mark.parametrize("name", [*TYPES, *OTHERS])
def test_a_changed_part_is_told_and_nothing_is_taken_up(state: State, tmp_path: pathlib.Path, name: str) -> None:
    change, told = (TYPES | OTHERS)[name]
    changed = copy.deepcopy(state)
    change(changed)
    path = tmp_path / "teacher.resume.pt"
    save_resume(path, changed)
    run = begun()
    before = copy.deepcopy(run.network.state_dict())
    with pytest.raises(ArtefactError, match=told) as caught:
        run.load(path, STEPS_PER_EPOCH)
    assert str(caught.value).count("\n") == 0
    assert (run.step, run.epochs) == (0, [])
    assert all(torch.equal(tensor, before[key]) for key, tensor in run.network.state_dict().items())
    assert tcs.verify(path).is_sound is (name in OTHERS)  # tcs verify knows no call that it could be held against


def test_options_of_another_release_of_torch_are_no_fault(state: State, tmp_path: pathlib.Path) -> None:
    changed = copy.deepcopy(state)
    for group in changed["optimizer"]["param_groups"]:
        group["of a later release"] = True
        del group["maximize"]
    save_resume(tmp_path / "teacher.resume.pt", changed)
    run = begun()
    run.load(tmp_path / "teacher.resume.pt", STEPS_PER_EPOCH)
    assert run.step == 3


@pytest.mark.parametrize("data", [b"", b"nonsense", b"PK\x03\x04"])
def test_a_file_that_is_none_is_told(tmp_path: pathlib.Path, data: bytes) -> None:
    path = tmp_path / "teacher.resume.pt"
    path.write_bytes(data)
    with pytest.raises(
        ArtefactError, match=r"teacher\.resume\.pt cannot be read; delete it to start this teacher again"
    ):
        begun().load(path, STEPS_PER_EPOCH)
