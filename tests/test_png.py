"""PNGs of stored pixels, read back by PIL."""

import io

import numpy as np
import pytest
from PIL import Image

from tcs.images.torchvision import stored_png


@pytest.mark.parametrize("shape", [(1, 1), (28, 28), (3, 5), (32, 32, 3), (1, 7, 3), (300, 301, 3)])
def test_pixels_come_back(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    image = Image.open(io.BytesIO(stored_png(pixels)))
    assert image.mode == ("L" if len(shape) == 2 else "RGB")
    assert np.array_equal(np.asarray(image), pixels)


def test_bytes_are_these_for_ever() -> None:
    """Stores are compared by them. Adler-32 of 00 07 08 by hand: 1 + 0 + 7 + 8 = 0x10, 1 + 8 + 16 = 0x19."""
    head = "89504e470d0a1a0a" + "0000000d49484452" + "00000002" + "00000001" + "0800000000" + "d1492056"
    data = "0000000e49444154" + "7801" + "01" + "0300fcff" + "000708" + "00190010" + "fc7398d3"
    assert stored_png(np.array([[7, 8]], np.uint8)).hex() == head + data + "0000000049454e44ae426082"


@pytest.mark.parametrize(
    "pixels", [np.zeros((2, 2)), np.zeros((2, 2, 4), np.uint8), np.zeros(4, np.uint8), np.zeros((0, 3), np.uint8)]
)
def test_other_arrays_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"they must be uint8 \(H, W\) or \(H, W, 3\)"):
        stored_png(pixels)
