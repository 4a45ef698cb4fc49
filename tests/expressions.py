"""Every loss of the table written out a second time, from its published expression, and the rows and settings it is tried on.

Plain torch in float64, nothing of `tcs.functional`. Legend: B rows, N rows of the run, S student dims, D teacher dims, K
coordinates, H bits, C classes; `p` holds the loss's own tensors by the names of its state.
"""

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tcs.criteria.base import LinearHead, Setting, StepRows
from tcs.functional.coordinates import HashPlanes

B, S, D, K, H, C, N = 16, 32, 48, 12, 24, 10, 40
SIZES = {  # (channels, height, width) of both sides, shallow to deep
    "equal": (((8, 8, 8), (16, 4, 4), (20, 2, 2)), ((12, 8, 8), (24, 4, 4), (30, 2, 2))),
    "student twice": (((8, 8, 8), (16, 8, 8), (20, 4, 4)), ((12, 4, 4), (24, 4, 4), (30, 2, 2))),
    "student half": (((8, 4, 4), (16, 2, 2), (20, 2, 2)), ((12, 8, 8), (24, 4, 4), (30, 4, 4))),
    "student larger": (((8, 6, 6), (16, 6, 6), (20, 5, 5)), ((12, 5, 5), (24, 5, 5), (30, 3, 3))),
}
Tensors = dict[str, Tensor]


def draws(seed: int) -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


def make_setting(sizes: str = "equal", **changes: object) -> Setting:
    draw = draws(1)
    planes = HashPlanes(rotation_HK=draw(H, K), thresholds_H=draw(H), rms_H=draw(H).abs() + 0.5)
    student_maps, teacher_maps = SIZES[sizes]
    setting = Setting(
        student_dims=S,
        classes=C,
        rows=N,
        seed=0,
        teacher_nD=draw(N, D) + 0.3,
        student_maps=student_maps,
        teacher_maps=teacher_maps,
        planes=planes,
    )
    return dataclasses.replace(setting, **changes)  # type: ignore[arg-type]


def make_rows(setting: Setting, seed: int = 2, *, labelled: int = B) -> StepRows:
    """A step, whose first `labelled` rows have a label."""
    draw, other = draws(seed), draws(seed + 100)
    place_B = torch.randperm(N, generator=torch.Generator().manual_seed(seed))[:B]
    assert setting.teacher_nD is not None
    return StepRows(
        logits_BC=(2 * draw(B, C)).requires_grad_(),
        features_BS=(draw(B, S) + 0.2).requires_grad_(),
        z_BK=draw(B, K).requires_grad_(),
        student_maps=tuple((draw(B, *shape) + 0.1).requires_grad_() for shape in setting.student_maps),
        second_BC=(2 * other(B, C)).requires_grad_(),
        head=LinearHead(weight_CS=other(C, S), bias_C=other(C)),
        labels_B=torch.where(torch.arange(B) < labelled, torch.arange(B) % C, -1),
        coordinates_BK=draw(B, K),
        bits_BH=(draw(B, H) > 0).to(torch.uint8),
        teacher_BD=setting.teacher_nD[place_B],
        teacher_maps=tuple(draw(B, *shape) + 0.4 for shape in setting.teacher_maps),
        teacher_logits_BC=2 * draw(B, C),
        place_B=place_B,
        pool_labels_BC=draw(B, C).softmax(1),
    )


# The published expressions.


def cross_entropy(values: Tensor, bits: Tensor) -> Tensor:
    return -(bits * torch.sigmoid(values).log() + (1 - bits) * torch.sigmoid(-values).log())


def kd(r: StepRows, p: Tensors) -> Tensor:
    target, scaled = (r.teacher_logits_BC / 4).softmax(1), (r.logits_BC / 4).softmax(1)
    return 16 * (target * (target.log() - scaled.log())).sum() / B


def dkd(r: StepRows, p: Tensors) -> Tensor:
    label = F.one_hot(r.labels_B, C).double()
    p_s, p_t = (r.logits_BC / 4).softmax(1), (r.teacher_logits_BC / 4).softmax(1)
    b_s, b_t = (torch.stack([(x * label).sum(1), (x * (1 - label)).sum(1)], 1) for x in (p_s, p_t))
    n_s, n_t = ((x / 4 - 1000 * label).log_softmax(1) for x in (r.logits_BC, r.teacher_logits_BC))
    binary = (b_t * (b_t.log() - b_s.log())).sum() / B
    return 16 * (binary + 8 * (n_t.exp() * (n_t - n_s)).sum() / B)


def dist(r: StepRows, p: Tensors) -> Tensor:
    def away(a: Tensor, b: Tensor) -> Tensor:
        a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
        return 1 - ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-8)).mean()

    p_s, p_t = r.logits_BC.softmax(1), r.teacher_logits_BC.softmax(1)
    return away(p_s, p_t) + away(p_s.T, p_t.T)


def second_kd(r: StepRows, p: Tensors) -> Tensor:
    target, scaled = (r.teacher_logits_BC / 2).softmax(1), (r.second_BC / 2).softmax(1)
    rows_B = 4 * (target * (target.log() - scaled.log())).sum(1)
    parts = (rows_B[r.labels_B >= 0], rows_B[r.labels_B < 0])
    return sum((part.mean() for part in parts if len(part)), torch.zeros(()))


def customkd(r: StepRows, p: Tensors) -> Tensor:
    general = (r.features_BS @ p["adaptor.weight"].T + p["adaptor.bias"] - r.teacher_BD).square().mean()
    mapped = r.teacher_BD @ p["map.weight"].T + p["map.bias"]
    specific = (r.features_BS - mapped.detach()).square().mean()
    with_label = r.labels_B >= 0
    log_p = (mapped @ r.head.weight_CS.T + r.head.bias_C).log_softmax(1)[with_label]
    return general + specific - log_p[torch.arange(len(log_p)), r.labels_B[with_label]].mean()


def elsh(r: StepRows, p: Tensors) -> Tensor:
    planes = make_setting().planes
    assert planes is not None
    values = 2 * (r.z_BK @ planes.rotation_HK.T - planes.thresholds_H) / planes.rms_H
    return cross_entropy(values, r.bits_BH.double()).mean()


def adapted(r: StepRows, p: Tensors) -> Tensor:
    return r.features_BS @ p["adaptor.weight"].T + p["adaptor.bias"]


def hashes(r: StepRows, p: Tensors) -> Tensor:
    """(B, H) terms of LSH, with thresholds that are the lower medians over the run's rows."""
    projections_nH = make_setting().teacher_nD @ p["weight_HD"].T
    bias_H = p["bias_H"]  # float32, as a run has it
    assert torch.allclose(bias_H, -projections_nH.sort(0).values[(N - 1) // 2], rtol=1e-5, atol=1e-6)
    values_s = adapted(r, p) @ p["weight_HD"].T + bias_H
    return cross_entropy(values_s, (r.teacher_BD @ p["weight_HD"].T + bias_H > 0).double())


def lshl2_s(r: StepRows, p: Tensors) -> Tensor:
    rows_B = hashes(r, p).mean(1) + (adapted(r, p) - r.teacher_BD).square().mean(1)
    return rows_B[r.teacher_logits_BC.argmax(1) == r.labels_B].mean()


def smooth_l1(a: Tensor, b: Tensor) -> Tensor:
    gap = (a - b).abs()
    return torch.where(gap < 1, gap.square() / 2, gap - 0.5).mean()


def unit(x: Tensor, dim: int = 1) -> Tensor:
    return x / x.square().sum(dim, keepdim=True).sqrt()


def normed(x: Tensor, eps: float = 1e-4) -> Tensor:
    return (x - x.mean(0)) / (x.var(0, unbiased=False) + eps).sqrt()


def standard(x: Tensor) -> Tensor:
    return (x - x.mean(0)) / x.std(0)


def row_normed(x: Tensor) -> Tensor:
    return (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()


def projected(r: StepRows, p: Tensors) -> Tensor:
    if "projector.weight" in p:
        return r.features_BS @ p["projector.weight"].T + p["projector.bias"]
    hidden = (r.features_BS @ p["projector.0.weight"].T + p["projector.0.bias"]).clamp_min(0)
    return hidden @ p["projector.2.weight"].T + p["projector.2.bias"]


def log_sum(normalise: Callable[[Tensor], Tensor]) -> Callable[[StepRows, Tensors], Tensor]:
    return lambda r, p: (normalise(projected(r, p)) - normalise(r.teacher_BD)).pow(4).sum().log()


def correlation(r: StepRows, p: Tensors) -> Tensor:
    c_D = (normed(projected(r, p), 0.0) * normed(r.teacher_BD, 0.0)).sum(0) / B
    return ((c_D - 1).pow(4).sum() + 1e-5).log()


def itrd(r: StepRows, p: Tensors) -> Tensor:
    c_D = (standard(projected(r, p)) * standard(r.teacher_BD)).sum(0) / B
    return (c_D - 1).square().pow(1.01).sum().log2()


def orthogonally(r: StepRows, p: Tensors) -> Tensor:
    """Through the first S columns of base @ exp(X - X'), X the strict lower triangle of the raw parameter."""
    lower = torch.cat([p["projector.raw"].tril(-1), torch.zeros(D, D - S, dtype=torch.float64)], 1)
    w = p["projector.base_TT"] @ torch.linalg.matrix_exp(lower - lower.T)
    assert torch.allclose(w.T @ w, torch.eye(D, dtype=torch.float64), atol=1e-5)  # its base is kept in float32
    return r.features_BS @ w[:, :S].T


def whitened(r: StepRows, p: Tensors) -> Tensor:
    """ZCA over the run's rows, directions below 1e-6 of the largest variance raised to it."""
    teacher_nD = make_setting().teacher_nD
    centred = teacher_nD - teacher_nD.mean(0)
    values, axes = torch.linalg.eigh(centred.T @ centred / N)
    matrix = axes @ torch.diag(values.clamp_min(1e-6 * values.max()) ** -0.5) @ axes.T
    return (r.teacher_BD - teacher_nD.mean(0)) @ matrix


def relative(x: Tensor) -> Tensor:
    off = ~torch.eye(B, dtype=torch.bool)
    pairs = (x[:, None] - x[None])[off].square().sum(1).sqrt()
    return torch.zeros(B, B, dtype=torch.float64).masked_scatter(off, pairs / pairs.mean())


def angles(x: Tensor) -> Tensor:
    towards = x[None] - x[:, None] + torch.eye(B)[:, :, None]
    towards = unit(towards, 2) * (1 - torch.eye(B)[:, :, None])
    return torch.einsum("ijd,ikd->ijk", towards, towards)


def distances(r: StepRows, p: Tensors) -> Tensor:
    return smooth_l1(relative(r.features_BS), relative(r.teacher_BD))


def triplets(r: StepRows, p: Tensors) -> Tensor:
    return smooth_l1(angles(r.features_BS), angles(r.teacher_BD))


def pkt(r: StepRows, p: Tensors) -> Tensor:
    def shares(x: Tensor) -> Tensor:
        x = x / (x.norm(dim=1, keepdim=True) + 1e-7)
        affinities = (x @ x.T + 1) / 2
        return affinities / affinities.sum(1, keepdim=True)

    p_s, p_t = shares(r.features_BS), shares(r.teacher_BD)
    return (p_t * ((p_t + 1e-7) / (p_s + 1e-7)).log()).mean()


def similarity(a: Tensor, b: Tensor) -> Tensor:
    a, b = a.flatten(1), b.flatten(1)
    return (unit(a @ a.T) - unit(b @ b.T)).square().sum() / B**2


def embedded(r: StepRows, p: Tensors) -> tuple[Tensor, Tensor]:
    sides = ((r.features_BS, "s"), (r.teacher_BD, "t"))
    e_s, e_t = (x @ p[f"embed_{side}.linear.weight"].T + p[f"embed_{side}.linear.bias"] for x, side in sides)
    return e_s, e_t


def cc(r: StepRows, p: Tensors) -> Tensor:
    e_s, e_t = embedded(r, p)
    gaps = (e_s - e_t).abs()
    return (gaps[:-1] * gaps[1:]).sum() / (B - 1)


def crd(r: StepRows, p: Tensors) -> Tensor:
    """The first step of a run that is smaller than 16384 rows: every other row is a negative."""
    total = torch.zeros((), dtype=torch.float64)
    noise = (N - 1) / N
    for e, bank in zip((unit(x) for x in embedded(r, p)), (p["bank_t_nE"], p["bank_s_nE"]), strict=True):
        ratios = (e @ bank.T / torch.tensor(0.07).double()).exp()
        ratios = ratios / (ratios.mean() * N).detach()
        own = F.one_hot(r.place_B, N).bool()
        total = total - (ratios[own] / (ratios[own] + noise + 1e-7)).log().sum() / B
        total = total - (noise / (ratios[~own] + noise + 1e-7)).log().sum() / B
    return total


def queue_kl(r: StepRows, p: Tensors) -> Tensor:
    """The first step: the queue holds the batch itself."""
    rows = unit(r.teacher_BD)
    s, t = (x @ rows.T / 0.07 for x in (unit(adapted(r, p)), rows))
    return (t.softmax(1) * (t.log_softmax(1) - s.log_softmax(1))).sum() / B


def pooled(r: StepRows) -> list[tuple[Tensor, Tensor]]:
    """Stage by stage, the larger map average-pooled to the smaller."""
    pairs = []
    for s, t in zip(r.student_maps, r.teacher_maps, strict=True):
        size = min(s.shape[-1], t.shape[-1])
        pairs.append((F.adaptive_avg_pool2d(s, size), F.adaptive_avg_pool2d(t, size)))
    return pairs


def at(r: StepRows, p: Tensors) -> Tensor:
    q = [[unit(x.square().mean(1).flatten(1)) for x in pair] for pair in pooled(r)]
    return sum(((a - b).square().mean() for a, b in q), torch.zeros(()))


def nst(r: StepRows, p: Tensors) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for pair in pooled(r):
        s, t = (unit(x.flatten(2), 2) for x in pair)
        for a, b, sign in ((t, t, 1), (s, s, 1), (s, t, -2)):
            total = total + sign * torch.einsum("bip,bjp->bij", a, b).square().mean()
    return total


def map_norm(x: Tensor, p: Tensors, name: str) -> Tensor:
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
    scale, shift = (p[f"{name}.{part}"][:, None, None] for part in ("weight", "bias"))
    return (x - mean) / (variance + 1e-5).sqrt() * scale + shift


def fitnet(r: StepRows, p: Tensors) -> Tensor:
    s, t = r.student_maps[1], r.teacher_maps[1]
    weight, bias, (h_s, h_t) = (
        p["regressor.convolution.weight"],
        p["regressor.convolution.bias"],
        (s.shape[2], t.shape[2]),
    )
    if h_s == 2 * h_t:
        mapped = F.conv2d(s, weight, bias, stride=2, padding=1)
    elif 2 * h_s == h_t:
        mapped = F.conv_transpose2d(s, weight, bias, stride=2, padding=1)
    else:
        assert weight.shape[2] == 1 + h_s - h_t
        mapped = F.conv2d(s, weight, bias)
    return (map_norm(mapped, p, "regressor.norm").clamp_min(0) - t).square().mean()


def vid(r: StepRows, p: Tensors) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for stage, (mu, t) in enumerate(pooled(r)):
        for layer in range(3):
            mu = mu.clamp_min(0) if layer else mu
            mu = torch.einsum("bshw,ts->bthw", mu, p[f"regressors.{stage}.convolutions.{layer}.weight"][:, :, 0, 0])
        v = ((1 + p[f"log_scales.{stage}"].exp()).log() + 1e-5)[:, None, None]
        total = total + ((mu - t).square() / v + v.log()).mean() / 2
    return total


def ickd(r: StepRows, p: Tensors) -> Tensor:
    s = torch.einsum("bshw,ts->bthw", r.student_maps[-1], p["embed.convolution.weight"][:, :, 0, 0])
    sides = map_norm(s, p, "embed.norm"), r.teacher_maps[-1]
    icc_s, icc_t = (unit(torch.einsum("bip,bjp->bij", x.flatten(2), x.flatten(2)), 2) for x in sides)
    return (icc_s - icc_t).square().sum() / (icc_t.shape[1] * B)


def review(r: StepRows, p: Tensors) -> Tensor:
    targets = [*r.teacher_maps, r.teacher_BD[:, :, None, None]]
    deeper, total = None, torch.zeros((), dtype=torch.float64)
    for level, s in reversed(list(enumerate([*r.student_maps, r.features_BS[:, :, None, None]]))):
        name, t = f"fusion.levels.{level}", targets[level]
        x = map_norm(F.conv2d(s, p[f"{name}.reduce.0.weight"]), p, f"{name}.reduce.1")
        if deeper is not None:
            y = F.interpolate(deeper, x.shape[2:], mode="nearest")
            gates = torch.sigmoid(F.conv2d(torch.cat([x, y], 1), p[f"{name}.gates.weight"], p[f"{name}.gates.bias"]))
            x = x * gates[:, :1] + y * gates[:, 1:]
        deeper = F.interpolate(x, t.shape[2:], mode="nearest")
        out = map_norm(F.conv2d(deeper, p[f"{name}.expand.0.weight"], padding=1), p, f"{name}.expand.1")
        errors = [(out - t).square().mean()]
        for size in (size for size in (4, 2, 1) if size < t.shape[2]):
            errors.append((F.adaptive_avg_pool2d(out, size) - F.adaptive_avg_pool2d(t, size)).square().mean())
        weights = [0.5**power for power in range(len(errors))]
        total = total + sum(w * e for w, e in zip(weights, errors, strict=True)) / sum(weights)
    return total


def rdimkd_map(r: StepRows, p: Tensors) -> Tensor:
    s, t = pooled(r)[-1]
    mapped = torch.einsum("bshw,ts->bthw", s, p["adaptor.weight"][:, :, 0, 0]) + p["adaptor.bias"][:, None, None]
    return (mapped - t).square().mean()


ORIGINALS: dict[str, Callable[[StepRows, Tensors], Tensor]] = {
    "pool": lambda r, p: (
        -(r.pool_labels_BC * (r.logits_BC - r.logits_BC.exp().sum(1, keepdim=True).log())).sum(1).mean()
    ),
    "ce": lambda r, p: -r.logits_BC.softmax(1)[torch.arange(B), r.labels_B].log().mean(),
    "kd": kd,
    "dkd": dkd,
    "dist": dist,
    "dho-kd": second_kd,
    "customkd-l2": customkd,
    "l2": lambda r, p: (r.z_BK - r.coordinates_BK).square().mean(),
    "elsh": elsh,
    "lsh": lambda r, p: hashes(r, p).mean(),
    "lshl2": lambda r, p: hashes(r, p).mean() + (adapted(r, p) - r.teacher_BD).square().mean(),
    "lshl2_s": lshl2_s,
    "cosine": lambda r, p: 1 - (unit(adapted(r, p)) * unit(r.teacher_BD)).sum(1).mean(),
    "feature-l2": lambda r, p: (adapted(r, p) - r.teacher_BD).square().mean(),
    "smooth-l1": lambda r, p: smooth_l1(adapted(r, p), r.teacher_BD),
    "csd": lambda r, p: (
        1 - (unit(r.features_BS @ p["projection_SK"]) * unit(r.teacher_BD @ p["projection_DK"])).sum(1).mean()
    ),
    "projector": log_sum(normed),
    "projector-mlp": log_sum(normed),
    "projector-gn": log_sum(row_normed),
    "projector-l2": log_sum(unit),
    "projector-none": log_sum(lambda x: x),
    "projector-correlation": correlation,
    "projector-itrd": itrd,
    "projector-mse": lambda r, p: (unit(projected(r, p)) - unit(r.teacher_BD)).square().mean(),
    "vkd": lambda r, p: smooth_l1(orthogonally(r, p), row_normed(r.teacher_BD)),
    "vkd-standardised": lambda r, p: smooth_l1(standard(orthogonally(r, p)), standard(r.teacher_BD)),
    "vkd-whitened": lambda r, p: smooth_l1(orthogonally(r, p), whitened(r, p)),
    "rkd": lambda r, p: 25 * distances(r, p) + 50 * triplets(r, p),
    "rkd-distance": distances,
    "rkd-angle": triplets,
    "pkt": pkt,
    "sp-pooled": lambda r, p: similarity(r.features_BS, r.teacher_BD),
    "sp": lambda r, p: similarity(r.student_maps[-1], r.teacher_maps[-1]),
    "cc": cc,
    "crd": crd,
    "queue-kl": queue_kl,
    "fitnet": fitnet,
    "at": at,
    "nst": nst,
    "vid": vid,
    "ickd": ickd,
    "review": review,
    "rdimkd-map": rdimkd_map,
}
