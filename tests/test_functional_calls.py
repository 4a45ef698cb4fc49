"""The function that the table names for a loss, called with plain tensors alone, against the loss's published expression."""

import pytest
import torch
from built_losses import gradients, make_criterion
from expressions import ORIGINALS, SIZES, B, make_rows, make_setting
from functional_calls import CALLS

from tcs.criteria.losses import LOSSES


@pytest.mark.parametrize(
    ("name", "sizes"),
    [(name, sizes) for name in LOSSES for sizes in (SIZES if "maps" in LOSSES[name].reads else ["equal"])],
)
def test_the_named_function_with_plain_tensors_is_the_published_expression(name: str, sizes: str) -> None:
    setting = make_setting(sizes)
    criterion, rows = make_criterion(name, setting), make_rows(setting)
    p = {**dict(criterion.named_parameters()), **{k: b.clone() for k, b in criterion.named_buffers()}}
    found = CALLS[name](LOSSES[name].function, rows, p)
    expected = ORIGINALS[name](rows, p)
    assert (found.dtype, found.shape) == (torch.float64, ())
    assert found.item() == pytest.approx(expected.item(), rel=1e-9)
    leaves = [rows.logits_BC, rows.features_BS, rows.z_BK, rows.second_BC, *rows.student_maps, *criterion.parameters()]
    for a, b in zip(gradients(found, leaves), gradients(expected, leaves), strict=True):
        assert (a - b).abs().max() <= 1e-7 * max(float(b.abs().max()), 1e-6), a.shape


@pytest.mark.parametrize("name", ["at", "nst"])
def test_a_map_may_stand_for_a_list_of_one(name: str) -> None:
    rows, function = make_rows(make_setting("student twice")), LOSSES[name].function
    s, t = rows.student_maps[0], rows.teacher_maps[0]
    assert function(s, t).item() == function([s], [t]).item()
    assert len(s) == B
