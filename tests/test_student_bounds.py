"""How large a student may grow: one line before the memory is taken or the time is lost, and no model of timm's is refused."""

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tcs.errors import ModelError
from tcs.students import bounds
from tcs.students.backbone import create_backbone, parse_student
from tcs.students.bounds import (
    SLACK_BYTES,
    Room,
    TooLargeError,
    built,
    numbers_in,
    require_no_file,
    room_of_machine,
    room_of_weights,
    sketched,
    values_of,
)
from tcs.teacher.hub import build as build_teacher
from tcs.teacher.hub import from_hub

MIB, GIB = 1 << 20, 1 << 30


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
            r"asks for more than .* MiB, and (this machine|the control group of this process) has .* GiB",
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
    began = time.process_time()
    with made_bytes() as made, pytest.raises(ModelError, match=rf"--model '{text[:8]}.*{message}"):
        create_backbone(parse_student(text), 2)
    assert time.process_time() - began < 10
    assert sum(made) < MIB  # a state of the generator, rates of dropout; else tensors without memory


def test_a_folder_that_is_not_there_is_told_as_any_student_is(tmp_path: pathlib.Path) -> None:
    with pytest.raises(
        ModelError, match=r"--model 'local-dir:.*nope' cannot be built: FileNotFoundError: .*; check its"
    ):
        create_backbone(parse_student(f"local-dir:{tmp_path / 'nope'}"), 2)


def test_the_room_is_that_of_the_control_group_where_it_is_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "machine_bytes", lambda: 64 * GIB)
    for limit, room in (
        (None, Room(64 * GIB, "this machine has 64.0 GiB")),
        (GIB // 8, Room(GIB // 8, "the control group of this process has 0.1 GiB")),
    ):
        monkeypatch.setattr(bounds, "group_limit", lambda limit=limit: limit)
        assert room_of_machine() == room
    with pytest.raises(
        ModelError, match=r"asks for more than 128 MiB, and the control group of this process has 0\.1 GiB"
    ):
        create_backbone(parse_student("vit_base_patch16_224"), 2)


def test_layers_are_counted_as_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bounds.MOST_PARTS == 20_000
    monkeypatch.setattr(bounds, "MOST_PARTS", 300)
    with pytest.raises(ModelError, match=r"--model 'resnet18.* has more than 300 layers; give it smaller arguments"):
        create_backbone(parse_student("resnet18,layers=(90000,1,1,1)"), 2)
    create_backbone(parse_student("resnet18"), 2)


class _Counting(TorchDispatchMode):
    """Notes the bytes of every tensor that an operation gives and that takes memory."""

    def __init__(self, made: list[int]) -> None:
        super().__init__()
        self._made = made

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        given = func(*args, **(kwargs or {}))
        self._made += [leaf.nbytes for leaf in tree_leaves(given) if isinstance(leaf, Tensor) and not leaf.is_meta]
        return given


@contextlib.contextmanager
def made_bytes() -> Iterator[list[int]]:
    """The bytes of all tensors that operations give meanwhile, those on `meta` left out."""
    made: list[int] = []
    with _Counting(made):
        yield made


def test_tensors_that_take_memory_are_counted() -> None:
    with made_bytes() as made:
        torch.empty(3, MIB)
        torch.empty(5, MIB, device="meta")
    assert made == [12 * MIB]


@pytest.mark.parametrize("make", [build_teacher, from_hub])
def test_no_argument_names_a_file_to_timm(make: Callable[..., object]) -> None:
    """As for students: timm would open it, whatever it is, and nothing would be recorded."""
    with pytest.raises(ModelError, match=r"--teacher-kwargs gives checkpoint_path; use --teacher-checkpoint FILE for"):
        make("resnet18", {"checkpoint_path": "/dev/stdin"})
    require_no_file({"path": "x"}, "--model", "--student-checkpoint")


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
    with pytest.raises(KeyboardInterrupt):
        sketched(lambda: interrupted(KeyboardInterrupt), {})
    with pytest.raises(ImportError):  # and what no argument brings about is not passed over
        sketched(lambda: interrupted(ImportError), {})
    assert torch.equal(before, torch.get_rng_state())


def interrupted(kind: type[BaseException]) -> nn.Module:
    raise kind


def test_what_fills_a_student_says_how_large_it_may_be() -> None:
    weights = {"a": torch.zeros(3, 4, dtype=torch.float16), "b": torch.zeros(())}
    assert values_of(weights) == 13
    assert room_of_weights(13).bytes == 2 * 4 * 13 + SLACK_BYTES


@pytest.mark.parametrize("value", [{"a": (1, [2.5, {"b": 3}]), "c": "4"}])
def test_numbers_are_found_at_any_depth(value: object) -> None:
    assert list(numbers_in(value)) == [1, 2.5, 3]
