"""Numbers that the authors' own code gave (`../shared/fixtures`, not part of this repository) and how a loss is held against them."""

import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

FOLDER = pathlib.Path(__file__).parent.parent.parent / "shared" / "fixtures"


def published(name: str) -> dict[str, np.ndarray]:
    """The arrays of NAME.npz; the test is skipped, saying so, where the folder is absent."""
    path = FOLDER / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"{path} is absent: parity with the authors' code is not checked here")
    with np.load(path, allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def tensor(array: np.ndarray, dtype: torch.dtype, grad: bool = False) -> Tensor:
    """`array` on the CPU; integers keep their dtype."""
    made = torch.from_numpy(np.array(array))
    return (made.to(dtype) if made.is_floating_point() else made).requires_grad_(grad)


def check_parity(
    arrays: dict[str, np.ndarray],
    loss: Callable[..., Tensor],
    inputs: Sequence[str],
    value: str,
    gradients: dict[str, str],
    rtol: float = 1e-9,
) -> None:
    """`loss(*inputs)` and its gradients ({input: stored gradient}) in float64, and against the `_f32` twins in float32."""
    for dtype, suffix, loss_rtol, gradient_rtol in (
        (torch.float64, "", rtol, 1e-7),
        (torch.float32, "_f32", 1e-5, 1e-4),
    ):
        if suffix and value + suffix not in arrays:
            continue
        leaves = [tensor(arrays[name], dtype, grad=name in gradients) for name in inputs]
        result = loss(*leaves)
        assert result.dtype == dtype
        assert result.shape == ()
        assert float(result.detach()) == pytest.approx(float(arrays[value + suffix]), rel=loss_rtol), dtype
        result.backward()
        for leaf, name in zip(leaves, inputs, strict=True):
            if name in gradients:
                assert leaf.grad is not None
                compare(leaf.grad, arrays[gradients[name] + suffix], gradient_rtol)


def compare(found: Tensor, expected: np.ndarray, rtol: float) -> None:
    """Every entry within `rtol` of the largest expected magnitude."""
    error = np.abs(found.detach().numpy() - expected).max()
    assert error <= rtol * np.abs(expected).max(), f"off by {error} of {np.abs(expected).max()}"


def draw(*shape: int, seed: int, grad: bool = False, dtype: torch.dtype = torch.float64) -> Tensor:
    """Seeded normal numbers."""
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return made.requires_grad_(grad)


def finite_gradient(loss: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The gradient of `loss` at `x`, after a check that it and the loss are finite."""
    leaf = x.detach().clone().requires_grad_()
    value = loss(leaf)
    assert torch.isfinite(value)
    (gradient,) = torch.autograd.grad(value, leaf)
    assert torch.isfinite(gradient).all()
    return gradient
