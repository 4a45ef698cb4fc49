"""The table of losses: every entry trains something that is not the start, and the strings that compose them."""

import pytest
import torch

from tcs.criteria.base import LinearHead, Setting, StepRows
from tcs.criteria.losses import LOSSES, build_criteria
from tcs.criteria.terms import LossTerm, parse_loss, reads
from tcs.errors import ConfigError
from tcs.functional.coordinates import HashPlanes


def test_a_loss_string_is_a_weighted_sum() -> None:
    assert parse_loss("ce + 0.5*elsh+2*l2") == (
        LossTerm(name="ce", weight=1.0),
        LossTerm(name="elsh", weight=0.5),
        LossTerm(name="l2", weight=2.0),
    )
    assert reads(parse_loss("ce + elsh")) == {"labels", "bits"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cee", "--loss names 'cee', which is no loss. Did you mean ce.*tcs methods lists them"),
        ("ce + ce", "each loss may stand in it once"),
        ("ce elsh", "not NAME or WEIGHT"),
        ("", "not NAME or WEIGHT"),
        ("0*ce", "must be a positive number"),
        ("1..2*ce", "is not a number"),
        ("1e999*ce", "must be a positive number"),
    ],
)
def test_bad_loss_strings_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_loss(text)


B, S, D, K, H, C = 6, 12, 20, 5, 16, 4
STUDENT_MAPS = ((8, 8, 8), (10, 4, 4), (12, 2, 2))
TEACHER_MAPS = ((6, 8, 8), (14, 4, 4), (20, 2, 2))


def setting(seed: int = 0) -> Setting:
    generator = torch.Generator().manual_seed(1)
    planes = HashPlanes(
        rotation_HK=torch.randn(H, K, generator=generator), thresholds_H=torch.zeros(H), rms_H=torch.ones(H)
    )
    return Setting(
        student_dims=S,
        classes=C,
        rows=40,
        seed=seed,
        teacher_nD=torch.randn(40, D, generator=generator).half(),
        student_maps=STUDENT_MAPS,
        teacher_maps=TEACHER_MAPS,
        planes=planes,
    )


def step_rows(seed: int = 2) -> StepRows:
    """Random rows: what is the student's requires a gradient, what is cached is float16 where it may be."""
    generator = torch.Generator().manual_seed(seed)

    def student(*shape: int) -> torch.Tensor:
        return torch.randn(B, *shape, generator=generator).requires_grad_()

    def cached(*shape: int) -> torch.Tensor:
        return torch.randn(B, *shape, generator=generator).half()

    return StepRows(
        logits_BC=student(C),
        features_BS=student(S),
        z_BK=student(K),
        student_maps=tuple(student(*shape) for shape in STUDENT_MAPS),
        second_BC=student(C),
        head=LinearHead(weight_CS=torch.eye(C, S), bias_C=torch.zeros(C)),
        labels_B=torch.arange(B) % C,
        coordinates_BK=cached(K).float(),
        bits_BH=(cached(H) > 0).to(torch.uint8),
        teacher_BD=cached(D),
        teacher_maps=tuple(cached(*shape) for shape in TEACHER_MAPS),
        teacher_logits_BC=cached(C).float(),
        pool_labels_BC=cached(C).float().softmax(1),
        place_B=torch.arange(B),
    )


def leaves(rows: StepRows) -> list[torch.Tensor]:
    assert rows.z_BK is not None
    assert rows.second_BC is not None
    return [rows.logits_BC, rows.features_BS, rows.z_BK, rows.second_BC, *rows.student_maps]


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_reaches_the_student_and_all_that_it_trains(name: str) -> None:
    criterion = build_criteria(parse_loss(name), setting())[name]
    rows = step_rows()
    value = criterion(rows)
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    value.backward()
    gradients = [leaf.grad for leaf in leaves(rows) if leaf.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() and bool(gradient.any()) for gradient in gradients)
    for part, parameter in criterion.named_parameters():
        assert parameter.grad is not None, part
        assert torch.isfinite(parameter.grad).all(), part
    assert LOSSES[name].second_head == (rows.second_BC.grad is not None)
    assert bool(LOSSES[name].student_maps) == any(stage.grad is not None for stage in rows.student_maps)
    assert bool(LOSSES[name].trains) == (
        any(True for _ in criterion.parameters()) or rows.z_BK.grad is not None or rows.second_BC.grad is not None
    )


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_falls_when_it_is_followed(name: str) -> None:
    criterion = build_criteria(parse_loss(name), setting())[name]
    rows = step_rows()
    optimiser = torch.optim.Adam([*leaves(rows), *criterion.parameters()], lr=0.02)
    values = []
    for _ in range(40):
        optimiser.zero_grad()
        value = criterion(rows)
        value.backward()
        optimiser.step()
        values.append(value.item())
    assert min(values[-5:]) < values[0] - 1e-3 * abs(values[0])


@pytest.mark.parametrize("name", LOSSES)
def test_the_start_of_a_loss_depends_on_its_seed_and_name_alone(name: str) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first = build_criteria(parse_loss(name), setting())[name].state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(4)
    with_another = build_criteria(parse_loss(f"{name} + " + ("ce" if name != "ce" else "kd")), setting())
    again = with_another[name].state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)


@pytest.mark.parametrize("name", LOSSES)
def test_a_saved_loss_goes_on_where_it_was(name: str) -> None:
    one, other = (build_criteria(parse_loss(name), setting(seed))[name] for seed in (0, 7))
    for seed in (2, 5):
        one(step_rows(seed)).backward()
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(step_rows(9)), other(step_rows(9)))
