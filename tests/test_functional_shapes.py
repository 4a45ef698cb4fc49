"""Every tensor that a loss takes, in a wrong shape: it is refused as a ConfigError of one line, never by torch.

The right arguments are those of `test_functional_calls`. One tensor at a time gets a row, loses its last column, gains or loses
an axis; a loss that works all the same (at any widths, a broadcast bias never) must give a finite scalar.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from built_losses import make_criterion
from expressions import make_rows, make_setting
from functional_calls import CALLS
from torch import Tensor, nn

from tcs.criteria.losses import LOSSES
from tcs.errors import ConfigError
from tcs.functional import (
    ChannelEmbed,
    FeatureQueue,
    HashPlanes,
    HintRegressor,
    LinearEmbed,
    ReviewFusion,
    UnitEmbed,
    VidRegressor,
    Whitening,
    at_cached,
    attention,
    cc_embedded,
    coordinate_l2,
    cosine_logits,
    crd,
    csd_cached,
    customisation,
    customkd,
    dho,
    elsh,
    fold_heads,
    hash_bias,
    hash_bits,
    hint,
    ibm2,
    icc,
    kd,
    l2,
    lsh_from_bits,
    mixed_logits,
    nt_xent,
    perturb,
    projector_kd,
    queue_kl,
    rdimkd,
    reviewkd,
    similarity_kl,
    smoothed_loss,
    sp,
    start_fusion,
    update_bank,
    vid,
    vkd_given_target,
    vkd_standardised,
    whiten,
)
from tcs.functional.checks import require_shapes

WRONG: dict[str, Callable[[Tensor], Tensor]] = {
    "a row more": lambda x: torch.cat([x, x[:1]]),
    "a column less": lambda x: x[..., :-1],
    "an axis more": lambda x: x[None],
    "an axis less": lambda x: x[0],
}


def replaced(value: Any, wrong: Callable[[Tensor], Tensor]) -> Iterator[tuple[str, Any]]:
    """`value` with one tensor in it made wrong, for each tensor that is in it."""
    if isinstance(value, Tensor):
        yield "", wrong(value.detach())
    elif isinstance(value, (list, tuple)):
        for index, entry in enumerate(value):
            for where, new in replaced(entry, wrong):
                yield f"[{index}]{where}", [*value[:index], new, *value[index + 1 :]]
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            for where, new in replaced(getattr(value, field.name), wrong):
                yield f".{field.name}{where}", dataclasses.replace(value, **{field.name: new})


def arguments_of(name: str) -> tuple[list[Any], dict[str, Any]]:
    """What the documented call of a loss passes."""
    setting = make_setting()
    criterion, rows = make_criterion(name, setting), make_rows(setting)
    tensors = {**dict(criterion.named_parameters()), **{k: b.clone() for k, b in criterion.named_buffers()}}
    caught: list[tuple[list[Any], dict[str, Any]]] = []

    def catch(*args: Any, **kwargs: Any) -> Tensor:
        caught.append((list(args), kwargs))
        return torch.zeros(())

    CALLS[name](catch, rows, tensors)
    return caught[0]


def x(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


LABELS = torch.tensor([0, 2, 1, 2])
MAPS, TARGETS = x(4, 3, 4, 4), x(4, 5, 4, 4)
OTHERS: dict[Callable[..., Any], list[Any]] = {  # public functions beside those of the table, each with a right call
    at_cached: [MAPS, x(4, 4, 4)],
    attention: [MAPS],
    cosine_logits: [x(4, 5), x(3, 5), x(3)],
    crd: [x(4, 6), x(4, 6), x(9, 6), x(9, 6), torch.tensor([[0, 1], [1, 2], [2, 3], [3, 4]]), 3.0, 4.0],
    csd_cached: [x(4, 5), x(4, 2), x(5, 2)],
    customisation: [x(4, 7), LABELS, x(5, 7), x(5), x(3, 5), x(3)],
    customkd: [x(4, 5), x(4, 7), x(5, 7), x(5), x(7, 5), x(7)],
    dho: [x(4, 3), LABELS, x(4, 3), x(4, 3), x(6, 3), x(6, 3)],
    fold_heads: [x(3, 5), x(3), x(3, 5), x(3)],
    hint: [TARGETS, TARGETS],
    ibm2: [x(4, 5), LABELS, x(3, 5), x(3), 0.1, x(4, 2, 5), x(5)],
    icc: [TARGETS, TARGETS],
    lsh_from_bits: [x(4, 5), x(4, 8) > 0, x(8, 7), x(8), x(7, 5), x(7)],
    mixed_logits: [x(4, 3), x(4, 3)],
    nt_xent: [x(4, 5), x(4, 5), 0.1],
    perturb: [x(4, 5), x(5), 0.1, x(4, 2, 5)],
    queue_kl: [x(4, 5), x(4, 5), FeatureQueue(rows_QT=x(6, 5), filled=6)],
    rdimkd: [MAPS, TARGETS, x(5, 2), "mean", x(5, 3), x(5)],
    smoothed_loss: [x(4, 3), LABELS],
    vid: [TARGETS, TARGETS, x(5)],
    vkd_given_target: [x(4, 3), x(4, 5), x(5, 3)],
}


@pytest.mark.parametrize("how", WRONG)
@pytest.mark.parametrize("function", OTHERS, ids=lambda function: function.__name__)
def test_a_wrong_shape_is_refused_by_every_public_function(function: Callable[..., Any], how: str) -> None:
    function(*OTHERS[function])
    refused = []
    for where, args in replaced(OTHERS[function], WRONG[how]):
        try:
            function(*args)
        except ConfigError as error:
            refused.append(str(error))
        except Exception as error:
            pytest.fail(f"argument {where}: {type(error).__name__}: {error}")
    assert refused or not how.startswith("an axis")
    assert not any("\n" in message for message in refused)


def wrong_calls(name: str, how: str) -> Iterator[tuple[str, list[Any], dict[str, Any]]]:
    """The documented call with one tensor made wrong, or the first of both sides."""
    args, kwargs = arguments_of(name)
    yield "of both sides", [*(next(replaced(side, WRONG[how]))[1] for side in args[:2]), *args[2:]], kwargs
    for where, some in replaced(args, WRONG[how]):
        yield where, some, kwargs
    for key, value in kwargs.items():
        for where, new in replaced(value, WRONG[how]):
            yield f"{key}{where}", args, {**kwargs, key: new}


@pytest.mark.parametrize("how", WRONG)
@pytest.mark.parametrize("name", [name for name in LOSSES if name != "ce"])
def test_a_wrong_shape_is_refused_by_us(name: str, how: str) -> None:
    refused, worked = [], []
    for where, args, kwargs in wrong_calls(name, how):
        try:
            value = LOSSES[name].function(*args, **kwargs)
        except ConfigError as error:
            refused.append(str(error))
        except Exception as error:
            pytest.fail(f"argument {where}: {type(error).__name__}: {error}")
        else:
            assert value.shape == (), where
            worked.append(where)
    if how == "an axis more" and name == "vkd-standardised":
        assert worked == ["of both sides", "[0]", "[1]"]  # tokens, which may have any leading axes
    elif how.startswith("an axis"):
        assert not worked
    assert refused or how == "a column less"  # relations and maps may have any widths
    assert not any("\n" in message for message in refused)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            [(6, 3, 4, 4), (5, 4, 1, 1)],
            r"weight of shape \(5, 4, 1, 1\); it must be \(T, S, 1, 1\) with S = 3 as in f_s",
        ),
        (
            [(6, 3, 4, 4), (5, 3, 1)],
            r"weight of shape \(5, 3, 1\); it must be \(T, S, 1, 1\) with S = 3 as in f_s: give each",
        ),
        ([(6, 3), (5, 3, 1, 1)], r"f_s of shape \(6, 3\); it must be \(B, S, \., \.\): give each tensor the dims"),
    ],
)
def test_the_message_has_the_value_the_rule_and_the_remedy(shapes: list[tuple[int, ...]], message: str) -> None:
    f_s, weight = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(ConfigError, match=f"^fitnet has {message}"):
        require_shapes("fitnet", ("f_s", f_s, "B S . ."), ("bias", None, "T"), ("weight", weight, "T S 1 1"))


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (
            HintRegressor(3, 5, (4, 4), (4, 4)),
            (2, 4, 4, 4),
            r"HintRegressor has an input of shape \(2, 4, 4, 4\); .*B, 3",
        ),
        (
            VidRegressor(3, 5),
            (2, 3, 4),
            r"VidRegressor has an input of shape \(2, 3, 4\); it takes \(B, 3\) or \(B, 3, H",
        ),
        (ChannelEmbed(3, 5), (2, 5, 4, 4), r"ChannelEmbed has an input of shape \(2, 5, 4, 4\)"),
        (LinearEmbed(3, 5), (2, 4), r"LinearEmbed has an input of shape \(2, 4\)"),
        (UnitEmbed(3, 5), (2, 4), r"UnitEmbed has an input of shape \(2, 4\)"),
    ],
)
def test_modules_refuse_other_channels_and_dtypes(module: nn.Module, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        module(torch.zeros(shape))
    with pytest.raises(
        ConfigError, match=r"has weights of torch.float32 and features of torch.float64; convert one of"
    ):
        module(torch.zeros(2, 3, dtype=torch.float64))


def test_review_fusion_refuses_another_dtype_but_not_under_autocast() -> None:
    fusion, maps = ReviewFusion([3], [4]), [torch.ones(2, 3, 4, 4, dtype=torch.bfloat16)]
    with pytest.raises(ConfigError, match=r"ReviewFusion has weights of torch.float32 and features of torch.bfloat16"):
        fusion(maps, [(4, 4)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert fusion(maps, [(4, 4)])[0].shape == (2, 4, 4, 4)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (torch.tensor([0, 9]), "places from 0 to 9 in a bank of 9 rows; number the run's images from 0"),
        (torch.tensor([-1, 2]), "places from -1 to 2 in a bank of 9 rows"),
        (torch.tensor([0.0, 1.0]), r"places that are torch.float32 of shape \(2,\); give 2 integers"),
        (torch.tensor([[0], [1]]), r"places that are torch.int64 of shape \(2, 1\)"),
    ],
)
def test_places_are_rows_of_the_bank(places: Tensor, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        update_bank(torch.ones(9, 4), torch.ones(2, 4), places)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x: l2(x, x, torch.ones(4, 4), torch.ones(3)),
            r"adaptor's bias is \(3,\) for a weight of shape \(4, 4\); it must",
        ),
        (
            lambda x: reviewkd([x[0]], [x], start_fusion([4], [4])),
            r"loss of maps has an input of shape \(4,\); it takes maps",
        ),
        (lambda x: sp(x[0], x[0]), r"sp has an input of shape \(4,\); it takes one vector or map a row"),
        (
            lambda x: vkd_standardised(x, x[0], x),
            r"vkd_standardised has an input of shape \(4,\); it takes \(..., dims\)",
        ),
        (lambda x: kd(x[None], x[None]), r"kd has an input of shape \(1, 4, 4\); it takes one vector a row"),
        (lambda x: coordinate_l2(x[0], x[0]), r"coordinate_l2 has an input of shape \(4,\); it takes one vector a row"),
        (lambda x: projector_kd(x, x[0], x, x[0]), r"projector_kd has an input of shape \(4,\)"),
        (
            lambda x: cc_embedded(x, x, x, x[0], x[:3], x[0]),
            r"cc has weight_t_ET of shape \(3, 4\); .*E = 4 as in weight_s_ES",
        ),
        (
            lambda x: cc_embedded(x[0], x, x, x[0], x, x[0]),
            r"cc has f_s \(flattened\) of shape \(4,\); it must be \(B, S\)",
        ),
        (
            lambda x: similarity_kl(x, x, x[:, :2]),
            r"queue_kl has rows_QT of shape \(4, 2\); it must be \(Q, T\) with T = 4",
        ),
        (
            lambda x: hash_bits(x, x, x),
            r"lsh has bias_H of shape \(4, 4\); it must be \(H,\) with H = 4 as in weight_HT",
        ),
        (lambda x: hash_bias(x, x[0]), r"The hash bias has features \(4, 4\) and weight \(4,\); they must be"),
        (lambda x: elsh(x, x, planes(x[:3])), r"elsh has thresholds_H of shape \(4,\); it must be \(H,\) with H = 3"),
        (
            lambda x: elsh(x, x[:, :3], planes(x)),
            r"elsh has student \(4, 4\) and teacher \(4, 3\).*take the bits of the same",
        ),
        (
            lambda x: whiten(x[:, :3], Whitening(mean_T=x[0], matrix_TT=x)),
            r"whiten has t_BT of shape \(4, 3\); .*T = 4 as in m",
        ),
    ],
)
def test_each_rule_has_its_message(call: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call(torch.eye(4))


def planes(rotation_HK: Tensor) -> HashPlanes:
    return HashPlanes(rotation_HK=rotation_HK, thresholds_H=torch.zeros(4), rms_H=torch.ones(4))
