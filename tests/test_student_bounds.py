"""How large a student may grow: one line before the memory is taken or the time is lost, and no model of timm's is refused."""

import resource
import time
from collections.abc import Callable

import pytest
import timm
import torch
from torch import nn

from tcs.errors import ModelError
from tcs.students import bounds
from tcs.students.backbone import create_backbone, parse_student
from tcs.students.bounds import (
    SLACK_BYTES,
    Room,
    TooLargeError,
    built,
    float32_bytes,
    numbers_in,
    room_of_weights,
    sketched,
)
from tcs.teacher.hub import build as build_teacher

MIB = 1 << 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "resnet18,layers=(1000000000000,1,1,1)",
            r"given the number 1,000,000,000,000, and no architecture takes one above 100,000",
        ),
        ("cifar_resnet20,depth=1000000000", r"given the number 1,000,000,000,"),
        (
            "resnet18,layers=(1,1,1,1),channels=(100000,100000,8,8)",
            r"asks for more than .* MiB, and this machine has .* GiB",
        ),
        ("vit_tiny_patch16_224,embed_dim=99999", r"asks for more than .* MiB"),
        (
            "swin_tiny_patch4_window7_224,img_size=2048,window_size=512",
            r"asks for more than .* MiB",
        ),  # a table, made before it is kept
        ("resnet18,checkpoint_path=/dev/stdin", r"gives checkpoint_path; use --student-checkpoint FILE for weights"),
    ],
)
def test_students_beyond_a_bound_are_one_line(text: str, message: str) -> None:
    before, began = peak_bytes(), time.process_time()
    with pytest.raises(ModelError, match=rf"--model '{text[:8]}.*{message}"):
        create_backbone(parse_student(text), 2)
    assert time.process_time() - began < 10
    assert peak_bytes() - before < 600 * MIB  # of objects of Python: layers without weights


def test_layers_are_counted_as_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bounds.MOST_PARTS == 20_000
    monkeypatch.setattr(bounds, "MOST_PARTS", 300)
    with pytest.raises(ModelError, match=r"--model 'resnet18.* has more than 300 layers; give it smaller arguments"):
        create_backbone(parse_student("resnet18,layers=(90000,1,1,1)"), 2)
    create_backbone(parse_student("resnet18"), 2)


def peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_teachers_are_held_to_the_same_bounds() -> None:
    with pytest.raises(
        ModelError,
        match=r"teacher resnet18 cannot be built .*no architecture takes one above 100,000.*--teacher-kwargs",
    ):
        build_teacher("resnet18", {"layers": (10**12, 1, 1, 1)})
    with pytest.raises(ModelError, match=r"teacher resnet18 cannot be built .*asks for more than"):
        build_teacher("resnet18", {"channels": (99999, 99999, 8, 8)})


@pytest.mark.parametrize("make", [sketched, built])
def test_the_room_holds_to_the_byte(make: Callable[..., object]) -> None:
    """Parameters and buffers, in float32 (and one count of batches in int64)."""
    model = nn.BatchNorm1d(8)
    needed = 4 * 4 * 8 + 8
    assert sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers())) == needed
    make(lambda: nn.BatchNorm1d(8), {}, Room(needed, "it has room"))
    with pytest.raises(TooLargeError, match=r"asks for more than 0 MiB, and it has none"):
        make(lambda: nn.BatchNorm1d(8), {}, Room(needed - 1, "it has none"))
    assert nn.Linear(4, 4).weight.shape == (4, 4)  # nothing is counted afterwards


def test_a_sketch_leaves_chance_alone_and_finds_bounds_alone() -> None:
    before = torch.get_rng_state()
    sketched(lambda: timm.create_model("vit_tiny_patch16_224", drop_path_rate=0.1), {})
    sketched(lambda: timm.create_model("resnet18", nonsense=1), {})
    assert torch.equal(before, torch.get_rng_state())


def test_what_fills_a_student_says_how_large_it_may_be() -> None:
    weights = {"a": torch.zeros(3, 4, dtype=torch.float16), "b": torch.zeros(())}
    assert float32_bytes(weights) == 52
    assert room_of_weights(52).bytes == 104 + SLACK_BYTES


@pytest.mark.parametrize("value", [{"a": (1, [2.5, {"b": 3}]), "c": "4"}])
def test_numbers_are_found_at_any_depth(value: object) -> None:
    assert list(numbers_in(value)) == [1, 2.5, 3]
