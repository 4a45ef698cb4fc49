"""Images that are like photographs where it counts: in how fast their frequencies fall."""

import functools
import io

import numpy as np
from numpy import fft
from PIL import Image


@functools.cache
def photograph(height: int = 203, width: int = 277, seed: int = 0) -> Image.Image:
    """Pixels whose amplitudes fall with the frequency, as those of photographs do (1 / f), and whose colours are weak."""
    noise_HW3 = np.random.default_rng(seed).standard_normal((height, width, 3))
    frequency_HW = np.hypot(fft.fftfreq(height)[:, None], fft.fftfreq(width)[None])
    spectrum_HW3 = fft.fft2(noise_HW3, axes=(0, 1)) / (0.003 + frequency_HW)[:, :, None]
    shaped_HW3 = fft.ifft2(spectrum_HW3, axes=(0, 1)).real
    shaped_HW3 /= shaped_HW3.std(axis=(0, 1))
    values_HW3 = 128 + 50 * shaped_HW3[:, :, :1] + 12 * shaped_HW3
    return Image.fromarray(np.clip(values_HW3, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
