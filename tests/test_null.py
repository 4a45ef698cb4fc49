"""With cross-entropy alone the axes of the coordinate system do not matter (design section 5, "Where the teacher enters").

The head is written out as the paper has it, z = s * V'(A f + a - o), and trained with plain SGD in float64 from rotated
starts; and once with the parametrisation that the toolkit holds, P = s * V'A.
Legend: B batch rows, D teacher dims, K coordinates, S student width, C classes.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

ROWS, D, K, S, C = 64, 24, 10, 12, 4


def axes(seed: int, components: int) -> torch.Tensor:
    basis, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((D, components)))
    return torch.from_numpy(basis)


def train_logits(
    basis_DK: torch.Tensor, start_A: torch.Tensor, start_W: torch.Tensor, scale: float, steps: int = 200
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(ROWS, 6, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, C, (ROWS,), generator=generator)
    backbone = (torch.randn(S, 6, generator=generator, dtype=torch.float64) / 2).requires_grad_()
    A_DS, W_CK = start_A.clone().requires_grad_(), start_W.clone().requires_grad_()
    a_D, origin_D = torch.zeros(D, dtype=torch.float64, requires_grad=True), torch.zeros(D, dtype=torch.float64)

    def forward() -> torch.Tensor:
        features_BS = torch.tanh(inputs @ backbone.T)
        return scale * (features_BS @ A_DS.T + a_D - origin_D) @ basis_DK @ W_CK.T

    parameters = [backbone, A_DS, a_D, W_CK]
    for _ in range(steps):
        gradients = torch.autograd.grad(F.cross_entropy(forward(), labels), parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= 0.1 * gradient
    return forward().detach()


@pytest.mark.parametrize("components", [K, D])
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_any_axes_give_the_same_run_up_to_a_rotation_of_the_start(components: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(7)
    first_DK, second_DK = axes(1, components), axes(2, components)
    start_A = torch.randn(D, S, generator=generator, dtype=torch.float64) / S**0.5
    start_W = torch.randn(C, components, generator=generator, dtype=torch.float64) / components**0.5
    rotated_A = second_DK @ (first_DK.T @ start_A)
    one = train_logits(first_DK, start_A, start_W, scale)
    other = train_logits(second_DK, rotated_A, start_W, scale)
    assert float((one - other).abs().max()) < 1e-9
    untrained = train_logits(first_DK, start_A, start_W, scale, steps=0)
    assert float((one - untrained).abs().max()) > 1  # the run does learn, so the equality is not empty


def test_a_start_that_is_not_rotated_gives_another_run() -> None:
    generator = torch.Generator().manual_seed(7)
    start_A = torch.randn(D, S, generator=generator, dtype=torch.float64) / S**0.5
    start_W = torch.randn(C, K, generator=generator, dtype=torch.float64) / K**0.5
    one, other = (train_logits(axes(seed, K), start_A, start_W, 1.0) for seed in (1, 2))
    assert float((one - other).abs().max()) > 1e-3
