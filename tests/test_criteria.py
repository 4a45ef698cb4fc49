"""Every loss of the table, as a run builds it, against its published expression, and at the edges of what it can work on.

Value within 1e-9, gradients (student outputs and everything that the loss trains) within 1e-7 of their largest, in float64.
"""

import dataclasses

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from built_losses import gradients, make_criterion
from expressions import ORIGINALS, SIZES, B, C, D, N, S, embedded, make_rows, make_setting, unit

from tcs.criteria.base import StepRows
from tcs.criteria.losses import LOSSES
from tcs.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "sizes"),
    [(name, sizes) for name in LOSSES for sizes in (SIZES if "maps" in LOSSES[name].reads else ["equal"])],
)
def test_every_loss_is_its_published_expression(name: str, sizes: str) -> None:
    setting = make_setting(sizes)
    criterion, rows = make_criterion(name, setting), make_rows(setting)
    tensors = {**dict(criterion.named_parameters()), **{k: b.clone() for k, b in criterion.named_buffers()}}
    expected, found = ORIGINALS[name](rows, tensors), criterion(rows)
    assert found.item() == pytest.approx(expected.item(), rel=1e-9)
    leaves = [rows.logits_BC, rows.features_BS, rows.z_BK, rows.second_BC, *rows.student_maps, *criterion.parameters()]
    pairs = list(zip(gradients(found, leaves), gradients(expected, leaves), strict=True))
    assert any(bool(b.any()) for _, b in pairs)
    for a, b in pairs:
        assert (a - b).abs().max() <= 1e-7 * max(float(b.abs().max()), 1e-6), a.shape


def test_crd_writes_its_banks_after_the_loss_and_keeps_its_first_normalisers() -> None:
    setting = make_setting()
    criterion = make_criterion("crd", setting)
    for seed in (2, 3):
        rows = make_rows(setting, seed)
        p = {**dict(criterion.named_parameters()), **{k: b.clone() for k, b in criterion.named_buffers()}}
        found = criterion(rows).item()
        written = dict(criterion.named_buffers())
        for side, e in zip("st", (unit(x).detach() for x in embedded(rows, p)), strict=True):
            bank = f"bank_{side}_nE"
            assert torch.allclose(written[bank][rows.place_B], unit(p[bank][rows.place_B] + e), rtol=1e-12)
            others = torch.ones(N, dtype=torch.bool).index_fill(0, rows.place_B, False)
            assert torch.equal(written[bank][others], p[bank][others])
        if seed == 2:
            first = written["normalisers"].clone()
    assert torch.equal(written["normalisers"], first)
    total, noise, own = torch.zeros(()), (N - 1) / N, F.one_hot(rows.place_B, N).bool()
    for e, bank, z in zip((unit(x) for x in embedded(rows, p)), ("bank_t_nE", "bank_s_nE"), first, strict=True):
        ratios = (e @ p[bank].T / torch.tensor(0.07).double()).exp() / z
        total = total - (ratios[own] / (ratios[own] + noise + 1e-7)).log().sum() / B
        total = total - (noise / (ratios[~own] + noise + 1e-7)).log().sum() / B
    assert found == pytest.approx(total.item(), rel=1e-9)


POINT, TALL, WIDE = (8, 1, 1), (8, 4, 2), (8, 2, 4)


@pytest.mark.parametrize("name", ["at", "nst", "ickd"])
@pytest.mark.parametrize(
    ("side", "remedy"), [("student", "use a larger --img-size"), ("teacher", "extract maps of shallower stages")]
)
def test_maps_of_one_position_are_refused_before_the_first_step(name: str, side: str, remedy: str) -> None:
    setting = make_setting(**{f"{side}_maps": (*SIZES["equal"][0][:2], POINT)})
    with pytest.raises(ConfigError, match=f"{name} has {side} maps of 8x8, 4x4, 1x1 positions, .*; {remedy}"):
        make_criterion(name, setting)


@pytest.mark.parametrize("name", ["at", "nst", "vid", "rdimkd-map"])
def test_maps_of_which_none_fits_inside_the_other_are_refused_before_the_first_step(name: str) -> None:
    setting = make_setting(student_maps=(TALL,), teacher_maps=(WIDE,))
    with pytest.raises(ConfigError, match=f"{name} has student maps of 4x2 positions and teacher maps of 2x4; "):
        make_criterion(name, setting)


@pytest.mark.parametrize("name", ["lsh", "lshl2", "lshl2_s"])
def test_features_without_spread_have_no_hash_planes(name: str) -> None:
    with pytest.raises(ConfigError, match="lsh has 40 rows of teacher features that are all the same"):
        make_criterion(name, make_setting(teacher_nD=torch.full((N, D), 0.1, dtype=torch.float16)))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize(
    ("name", "message"), [("lsh", "lsh has teacher features that are not finite"), ("vkd-whitened", "not finite")]
)
def test_what_is_fitted_on_features_refuses_those_that_are_not_finite(name: str, message: str, value: float) -> None:
    setting = make_setting()
    assert setting.teacher_nD is not None
    setting.teacher_nD[3, 2] = value
    with pytest.raises(ConfigError, match=message):
        make_criterion(name, setting)


@pytest.mark.parametrize("case", ["constant coordinate", "teacher narrower", "two rows", "match"])
@pytest.mark.parametrize("name", LOSSES)
def test_awkward_rows_are_finite_or_refused_when_built(name: str, case: str) -> None:
    setting = make_setting()
    assert setting.teacher_nD is not None
    if case == "constant coordinate":
        teacher_nD = setting.teacher_nD.clone()
        teacher_nD[:, 3] = 7.3
        setting = dataclasses.replace(setting, teacher_nD=teacher_nD)
    elif case == "teacher narrower":
        setting = dataclasses.replace(setting, teacher_nD=setting.teacher_nD[:, : S - 5])
        if name.startswith("vkd"):
            with pytest.raises(ConfigError, match="student of 32 dims and a teacher of 27"):
                make_criterion(name, setting)
            return
    elif case == "match":
        setting = dataclasses.replace(setting, teacher_nD=setting.teacher_nD[:, :S], student_maps=setting.teacher_maps)
    criterion, rows = make_criterion(name, setting), make_rows(setting)
    if case == "match":
        rows = dataclasses.replace(
            rows,
            logits_BC=rows.teacher_logits_BC.clone().requires_grad_(),
            second_BC=rows.teacher_logits_BC.clone().requires_grad_(),
            features_BS=rows.teacher_BD.clone().requires_grad_(),
            z_BK=rows.coordinates_BK.clone().requires_grad_(),
            student_maps=tuple(stage.clone().requires_grad_() for stage in rows.teacher_maps),
        )
    elif case == "two rows":
        rows = part(rows, slice(0, 2))
    value = criterion(rows)
    assert torch.isfinite(value)
    for gradient in gradients(
        value,
        [rows.logits_BC, rows.features_BS, rows.z_BK, rows.second_BC, *rows.student_maps, *criterion.parameters()],
    ):
        assert torch.isfinite(gradient).all()


def part(rows: StepRows, span: slice) -> StepRows:
    """Some rows of a step; the student's head, which has no rows, is that of the whole step."""
    values = {field.name: getattr(rows, field.name) for field in dataclasses.fields(rows)}
    cut = {
        name: tuple(one[span] for one in value) if isinstance(value, tuple) else value[span]
        for name, value in values.items()
        if value is not None and name != "head"
    }
    return dataclasses.replace(rows, **cut)


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_loss_across_rows_is_no_mean_of_its_parts_and_any_other_is(name: str) -> None:
    setting, split = make_setting(), name in ("dho-kd", "customkd-l2")  # which tell labelled rows from the others
    rows, cut = make_rows(setting, labelled=B // 2 if split else B), B // 4
    whole = float(make_criterion(name, setting)(rows).detach())
    in_parts = make_criterion(name, setting)
    first, rest = (float(in_parts(part(rows, span)).detach()) for span in (slice(0, cut), slice(cut, B)))
    assert ((cut * first + (B - cut) * rest) / B != pytest.approx(whole, rel=1e-9)) == LOSSES[name].across_rows


@pytest.mark.parametrize("labelled", [0, 5])
@pytest.mark.parametrize("name", ["dho-kd", "customkd-l2"])
def test_rows_without_a_label_teach_what_needs_none(name: str, labelled: int) -> None:
    setting = make_setting()
    criterion, rows = make_criterion(name, setting), make_rows(setting, labelled=labelled)
    p = dict(criterion.named_parameters())
    found = criterion(rows)
    if labelled:
        assert found.item() == pytest.approx(ORIGINALS[name](rows, p).item(), rel=1e-9)
    else:
        everyone = dataclasses.replace(rows, labels_B=torch.arange(B) % C)
        supervised = 0.0
        if name == "customkd-l2":
            mapped_BS = rows.teacher_BD @ p["map.weight"].T + p["map.bias"]
            logits_BC = mapped_BS @ rows.head.weight_CS.T + rows.head.bias_C
            supervised = F.cross_entropy(logits_BC, everyone.labels_B).item()
        assert found.item() == pytest.approx(ORIGINALS[name](everyone, p).item() - supervised, rel=1e-9)


def test_customkd_trains_the_map_by_labels_alone_and_the_student_by_targets_alone() -> None:
    setting = make_setting()
    criterion, rows = make_criterion("customkd-l2", setting), make_rows(setting, labelled=6)
    head = dataclasses.replace(rows.head, weight_CS=rows.head.weight_CS.clone().requires_grad_())
    criterion(dataclasses.replace(rows, head=head)).backward()
    assert head.weight_CS.grad is None
    p = dict(criterion.named_parameters())
    mapped_BS = (rows.teacher_BD @ p["map.weight"].T + p["map.bias"])[:6]
    stage = F.cross_entropy(mapped_BS @ rows.head.weight_CS.T + rows.head.bias_C, rows.labels_B[:6])
    (expected,) = torch.autograd.grad(stage, [p["map.weight"]])
    assert torch.allclose(p["map.weight"].grad, expected, rtol=1e-9)
    again = criterion(dataclasses.replace(rows, labels_B=(rows.labels_B + 1) % C))
    (gradient_BS,) = torch.autograd.grad(again, [rows.features_BS])
    assert torch.equal(gradient_BS, rows.features_BS.grad)
