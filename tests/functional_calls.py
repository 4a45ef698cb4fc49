"""How the function that the table names for a loss is called with plain tensors alone: CALLS, a call for each loss.

What an outside caller needs: every projector, hash weight, bank and regressor is an argument. Legend: as in `expressions`.
"""

from collections.abc import Callable

import torch
from expressions import N, Tensors, make_setting
from torch import Tensor

from tcs.criteria.base import StepRows
from tcs.functional.customised import customisation
from tcs.functional.fusion import FusionWeights
from tcs.functional.orthogonal import expm
from tcs.functional.whitening import Whitening

Function = Callable[..., Tensor]


def features(r: StepRows, p: Tensors) -> list[Tensor]:
    return [r.features_BS, r.teacher_BD]


def logits(r: StepRows, p: Tensors) -> list[Tensor]:
    return [r.logits_BC, r.teacher_logits_BC]


def adaptor(p: Tensors) -> dict[str, Tensor]:
    return {"adaptor_TS": p["adaptor.weight"], "adaptor_bias_T": p["adaptor.bias"]}


def projected(f: Function, r: StepRows, p: Tensors) -> Tensor:
    return f(*features(r, p), p["projector.weight"], p["projector.bias"])


def mimicry(f: Function, r: StepRows, p: Tensors) -> Tensor:
    return f(*features(r, p), **adaptor(p))


def hashed(f: Function, r: StepRows, p: Tensors, *more: Tensor) -> Tensor:
    return f(*features(r, p), p["weight_HD"], p["bias_H"], *more, **adaptor(p))


def orthogonal(f: Function, r: StepRows, p: Tensors, *more: object) -> Tensor:
    return f(*features(r, p), expm(p["projector.raw"], p["projector.base_TT"]), *more)


def embedded(p: Tensors) -> list[Tensor]:
    return [p[f"embed_{side}.linear.{part}"] for side in "st" for part in ("weight", "bias")]


def crd(f: Function, r: StepRows, p: Tensors) -> Tensor:
    others = [[place, *(row for row in range(N) if row != place)] for place in r.place_B.tolist()]
    return f(*features(r, p), *embedded(p), p["bank_s_nE"], p["bank_t_nE"], torch.tensor(others))


def queue(f: Function, r: StepRows, p: Tensors) -> Tensor:
    rows_QD = r.teacher_BD / r.teacher_BD.norm(dim=1, keepdim=True)
    return f(*features(r, p), rows_QD, **adaptor(p))


def fitnet(f: Function, r: StepRows, p: Tensors) -> Tensor:
    parts = [p[f"regressor.{module}.{part}"] for module in ("convolution", "norm") for part in ("weight", "bias")]
    return f(r.student_maps[1], r.teacher_maps[1], *parts)


def vid(f: Function, r: StepRows, p: Tensors) -> Tensor:
    stages = enumerate(zip(r.student_maps, r.teacher_maps, strict=True))
    layers = [[p[f"regressors.{stage}.convolutions.{layer}.weight"] for layer in range(3)] for stage in range(3)]
    return torch.stack([f(s, t, *layers[stage], p[f"log_scales.{stage}"]) for stage, (s, t) in stages]).sum()


def ickd(f: Function, r: StepRows, p: Tensors) -> Tensor:
    weight = p["embed.convolution.weight"]
    return f(r.student_maps[-1], r.teacher_maps[-1], weight, p["embed.norm.weight"], p["embed.norm.bias"])


def level(p: Tensors, index: int) -> FusionWeights:
    name = f"fusion.levels.{index}"
    return FusionWeights(
        reduce_MS=p[f"{name}.reduce.0.weight"],
        reduce_scale_M=p[f"{name}.reduce.1.weight"],
        reduce_shift_M=p[f"{name}.reduce.1.bias"],
        expand_TM33=p[f"{name}.expand.0.weight"],
        expand_scale_T=p[f"{name}.expand.1.weight"],
        expand_shift_T=p[f"{name}.expand.1.bias"],
        gates_2M=p.get(f"{name}.gates.weight"),
        gates_bias_2=p.get(f"{name}.gates.bias"),
    )


def review(f: Function, r: StepRows, p: Tensors) -> Tensor:
    levels = [level(p, index) for index in range(4)]
    return f([*r.student_maps, r.features_BS], [*r.teacher_maps, r.teacher_BD], levels)


def rdimkd_map(f: Function, r: StepRows, p: Tensors) -> Tensor:
    cached = r.teacher_maps[-1]
    return f(r.student_maps[-1], cached, torch.eye(cached.shape[1], dtype=torch.float64), **adaptor(p))


def mlp(f: Function, r: StepRows, p: Tensors) -> Tensor:
    return f(*features(r, p), *(p[f"projector.{layer}.{part}"] for layer in (0, 2) for part in ("weight", "bias")))


def whitened(f: Function, r: StepRows, p: Tensors) -> Tensor:
    return orthogonal(f, r, p, Whitening(mean_T=p["mean_D"], matrix_TT=p["matrix_DD"]))


def customkd(f: Function, r: StepRows, p: Tensors) -> Tensor:
    own = [p["map.weight"], p["map.bias"]]
    stage = customisation(r.teacher_BD, r.labels_B, *own, r.head.weight_CS, r.head.bias_C)
    return stage + f(*features(r, p), *own, p["adaptor.weight"], p["adaptor.bias"])


CALLS: dict[str, Callable[[Function, StepRows, Tensors], Tensor]] = {
    "ce": lambda f, r, p: f(r.logits_BC, r.labels_B),
    "pool": lambda f, r, p: f(r.logits_BC, r.pool_labels_BC),
    "kd": lambda f, r, p: f(*logits(r, p)),
    "dkd": lambda f, r, p: f(*logits(r, p), r.labels_B.int()),
    "dist": lambda f, r, p: f(*logits(r, p)),
    "dho-kd": lambda f, r, p: f(r.second_BC, r.teacher_logits_BC),
    "customkd-l2": customkd,
    "l2": lambda f, r, p: f(r.z_BK, r.coordinates_BK),
    "elsh": lambda f, r, p: f(r.z_BK, r.bits_BH, make_setting().planes),
    "lsh": hashed,
    "lshl2": hashed,
    "lshl2_s": lambda f, r, p: hashed(f, r, p, r.teacher_logits_BC.argmax(1) == r.labels_B),
    **dict.fromkeys(["cosine", "feature-l2", "smooth-l1"], mimicry),
    "csd": lambda f, r, p: f(*features(r, p), p["projection_SK"], p["projection_DK"]),
    **dict.fromkeys(["projector", "projector-gn", "projector-l2", "projector-none"], projected),
    **dict.fromkeys(["projector-correlation", "projector-itrd", "projector-mse"], projected),
    "projector-mlp": mlp,
    "vkd": orthogonal,
    "vkd-standardised": orthogonal,
    "vkd-whitened": whitened,
    **dict.fromkeys(["rkd", "rkd-distance", "rkd-angle", "pkt", "sp-pooled"], lambda f, r, p: f(*features(r, p))),
    "sp": lambda f, r, p: f(r.student_maps[-1], r.teacher_maps[-1]),
    "cc": lambda f, r, p: f(*features(r, p), *embedded(p)),
    "crd": crd,
    "queue-kl": queue,
    "fitnet": fitnet,
    **dict.fromkeys(["at", "nst"], lambda f, r, p: f(r.student_maps, r.teacher_maps)),
    "vid": vid,
    "ickd": ickd,
    "review": review,
    "rdimkd-map": rdimkd_map,
}
