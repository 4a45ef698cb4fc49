"""Whitening against its definition. Legend: N rows, T dims."""

import pytest
import torch
from published import draw

from tcs.errors import ConfigError
from tcs.functional.whitening import fit_whitening, whiten


def features(rows=60, width=4):
    return draw(rows, width, seed=0) @ draw(width, width, seed=1) + 3


@pytest.mark.parametrize("kind", ["zca", "pca"])
def test_whitened_rows_have_the_identity_as_covariance(kind):
    t = features()
    white = whiten(t, fit_whitening(t.mean(0), t.T.cov(correction=0), kind))
    assert torch.allclose(white.mean(0), torch.zeros(4).double(), atol=1e-10)
    assert torch.allclose(white.T @ white / 60, torch.eye(4).double(), atol=1e-9)


@pytest.mark.parametrize("kind", ["zca", "pca"])
def test_with_rows_columns_have_unit_length(kind):
    t = features()
    white = whiten(t, fit_whitening(t.mean(0), t.T.cov(correction=0), kind, rows=60))
    assert torch.allclose(white.T @ white, torch.eye(4).double(), atol=1e-9)


def test_zca_is_the_symmetric_root_and_pca_a_rotation_of_it():
    t = features()
    covariance = t.T.cov(correction=0)
    zca, pca = (fit_whitening(t.mean(0), covariance, kind).matrix_TT for kind in ("zca", "pca"))
    assert torch.allclose(zca, zca.T)
    assert torch.allclose(zca @ covariance @ zca, torch.eye(4).double(), atol=1e-9)
    rotation = pca @ torch.linalg.inv(zca)
    assert torch.allclose(rotation @ rotation.T, torch.eye(4).double(), atol=1e-9)
    lengths = pca.norm(dim=1)
    assert torch.equal(lengths, lengths.sort().values)  # the largest variance has the smallest scale, and comes first
    assert (pca.gather(1, pca.abs().argmax(1, keepdim=True)) > 0).all()


def test_directions_without_variance_are_not_blown_up():
    t = features()
    t[:, 3] = t[:, 0]
    whitening = fit_whitening(t.mean(0), t.T.cov(correction=0), floor=1e-4)
    largest = torch.linalg.eigvalsh(t.T.cov(correction=0))[-1]
    assert torch.linalg.matrix_norm(whitening.matrix_TT, 2) <= (1e-4 * largest) ** -0.5 * (1 + 1e-9)
    assert torch.isfinite(whiten(t, whitening)).all()


def test_rows_keep_at_least_float32():
    t = features()
    whitening = fit_whitening(t.mean(0), t.T.cov(correction=0))
    assert whitening.matrix_TT.dtype == torch.float64
    assert whiten(t.half(), whitening).dtype == torch.float32
    assert whiten(t, whitening).dtype == torch.float64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_whitening(torch.zeros(3), torch.eye(4)), r"mean \(3,\) and covariance \(4, 4\)"),
        (lambda: fit_whitening(torch.zeros(3), torch.eye(3), "cholesky"), "'cholesky'; known kinds are zca, pca"),
        (lambda: fit_whitening(torch.zeros(3), torch.eye(3), floor=0.0), "floor of whitening is 0.0"),
        (lambda: fit_whitening(torch.zeros(3), torch.eye(3), rows=0), "rows of whitening are 0"),
        (lambda: fit_whitening(torch.zeros(3), torch.zeros(3, 3)), "has no variance"),
        (lambda: fit_whitening(torch.zeros(3), torch.full((3, 3), torch.nan)), "covariance that is not finite"),
        (lambda: fit_whitening(torch.full((3,), torch.inf), torch.eye(3)), "covariance that is not finite"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
