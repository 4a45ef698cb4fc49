"""From the bytes of a photograph to the teacher's input: ways to get there, their speed on one core, and their pixels.

    python -m benchmarks.decoding PHOTOS --rounds 3

`tcs` is what `tcs extract` does: Pillow, then timm's evaluation transform (shorter side to 256, bicubic; crop 224). Speeds
are images per second of processor time on one thread, so a busy machine disturbs them little. Differences are against
`tcs`: in levels of 255 for decoded and for resized and cropped pixels, and as the relative L2 distance of the features that
randomly weighted models make of them. Only JPEGs are read; ways whose package is missing are left out.
Letters: H height, W width, B batch.
"""

import argparse
import dataclasses
import io
import math
import pathlib
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from timm.data import create_transform
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from benchmarks.turns import Table, report
from tcs.config.pixels import PixelRules
from tcs.images.decode import decode_image

RESIZED, SIDE = 256, 224
FORWARDED = 32  # photographs, spread evenly, whose features are compared
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BASE = "Pillow, timm's transform"
MODELS = ("resnet18", "vit_small_patch16_224")
TRANSFORM = create_transform((3, SIDE, SIDE), is_training=False, interpolation="bicubic", crop_pct=SIDE / RESIZED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Way:
    """How bytes become an image (a PIL image, or a uint8 tensor (3, H, W)), and how that becomes float32 (3, 224, 224)."""

    decode: Callable[[bytes], Any]
    transform: Callable[[Any], torch.Tensor]

    def __call__(self, data: bytes) -> torch.Tensor:
        """The whole way."""
        return self.transform(self.decode(data))


def plain(data: bytes) -> Image.Image:
    """Pillow alone."""
    return Image.open(io.BytesIO(data)).convert("RGB")


def with_draft(data: bytes) -> Image.Image:
    """Pillow, letting libjpeg decode at 1/2, 1/4 or 1/8 size where the result stays large enough."""
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (RESIZED, RESIZED))
    return image.convert("RGB")


def with_torchvision(data: bytes) -> torch.Tensor:
    """torchvision's libjpeg-turbo; from 0.29 on it says that it will go away."""
    decoded: torch.Tensor = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB)
    return decoded


def as_tensor(image: Image.Image) -> torch.Tensor:
    """uint8 (3, H, W), a view of (H, W, 3)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def as_image(image_3HW: torch.Tensor) -> Image.Image:
    """The PIL image of uint8 (3, H, W)."""
    return Image.fromarray(image_3HW.permute(1, 2, 0).numpy())


def tensor_transform(image_3HW: torch.Tensor) -> torch.Tensor:
    """torchvision's resize of uint8 tensors, antialiased, then what timm does."""
    small = functional.resize(image_3HW, [RESIZED], InterpolationMode.BICUBIC, antialias=True)
    cropped = functional.center_crop(small, [SIDE, SIDE])
    normal: torch.Tensor = functional.normalize(functional.to_dtype(cropped, torch.float32, scale=True), MEAN, STD)
    return normal


def all_ways() -> dict[str, Way]:
    """The contestants; the first is the base."""
    ways = {
        BASE: Way(decode=plain, transform=TRANSFORM),
        "tcs (simplejpeg where installed), timm's transform": Way(
            decode=lambda data: decode_image(data, PixelRules()), transform=TRANSFORM
        ),
        "Pillow with draft": Way(decode=with_draft, transform=TRANSFORM),
        "Pillow, resize of tensors": Way(decode=plain, transform=lambda image: tensor_transform(as_tensor(image))),
        "torchvision, timm's transform": Way(
            decode=with_torchvision, transform=lambda image: TRANSFORM(as_image(image))
        ),
        "torchvision, resize of tensors": Way(decode=with_torchvision, transform=tensor_transform),
    }
    try:
        import simplejpeg
    except ImportError:
        print("simplejpeg is not installed: its rows are left out.")
        return ways

    def exact(data: bytes) -> torch.Tensor:
        return torch.from_numpy(simplejpeg.decode_jpeg(data, "RGB")).permute(2, 0, 1)

    def fast(data: bytes) -> torch.Tensor:
        return torch.from_numpy(simplejpeg.decode_jpeg(data, "RGB", fastdct=True, fastupsample=True)).permute(2, 0, 1)

    return ways | {
        "simplejpeg, timm's transform": Way(decode=exact, transform=lambda image: TRANSFORM(as_image(image))),
        "simplejpeg, resize of tensors": Way(decode=exact, transform=tensor_transform),
        "simplejpeg, fast DCT and upsampling, resize of tensors": Way(decode=fast, transform=tensor_transform),
    }


def speed_table(
    title: str, contestants: dict[str, Callable[[bytes], object]], photos: list[bytes], rounds: int
) -> Table:
    """Images per second of processor time; the contestants take turns."""
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            start = time.process_time()
            for data in photos:
                contestant(data)
            speeds[name].append(len(photos) / (time.process_time() - start))
    return Table(title=title, unit="images/s per core", base=BASE, values=speeds)


def pixels(decoded: Image.Image | torch.Tensor) -> np.ndarray:
    """int16 (H, W, 3) of what a way decodes to."""
    array = decoded.permute(1, 2, 0).numpy() if isinstance(decoded, torch.Tensor) else np.asarray(decoded)
    return array.astype(np.int16)


def levels(image_3HW: torch.Tensor) -> np.ndarray:
    """Normalised pixels as levels of 255."""
    shape = (3, 1, 1)
    found: np.ndarray = 255 * (image_3HW * torch.tensor(STD).view(shape) + torch.tensor(MEAN).view(shape)).numpy()
    return found


def differences(ways: dict[str, Way], photos: list[bytes], device: torch.device) -> str:
    """A Markdown table: greatest and mean absolute difference of pixels, mean relative L2 of features, against the base."""
    models = {name: timm.create_model(name, num_classes=0).eval().to(device) for name in MODELS}
    inputs = {name: torch.stack([way(data) for data in photos]) for name, way in ways.items()}
    every = -(-len(photos) // FORWARDED)
    features = {
        (name, model): _features(models[model], inputs[name][::every], device) for name in ways for model in models
    }
    head = [
        "way",
        "decoded: max, mean",
        "share of photos equal",
        "resized: max, mean",
        *(f"{m}: rel. L2" for m in models),
    ]
    lines = [f"| {' | '.join(head)} |", f"|---{'|---:' * (len(head) - 1)}|"]
    for name, way in ways.items():
        decoded = [_difference(pixels(ways[BASE].decode(data)), pixels(way.decode(data))) for data in photos]
        resized = [_difference(levels(a), levels(b)) for a, b in zip(inputs[BASE], inputs[name], strict=True)]
        cells = [_cell(decoded), f"{statistics.mean(most == 0 for most, _ in decoded):.0%}", _cell(resized)]
        for model in models:
            base_BD, found_BD = features[BASE, model], features[name, model]
            cells.append(f"{((found_BD - base_BD).norm(dim=1) / base_BD.norm(dim=1)).mean():.1e}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


@torch.inference_mode()
def _features(model: torch.nn.Module, images_B3HW: torch.Tensor, device: torch.device) -> torch.Tensor:
    return torch.cat([model(batch.to(device)).cpu() for batch in torch.split(images_B3HW, 16)])


def _difference(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Greatest and mean; infinite where the sizes differ."""
    if first.shape != second.shape:
        return float("inf"), float("inf")
    gap = np.abs(first - second)
    return round(float(gap.max()), 2), float(gap.mean())


def _cell(found: Sequence[tuple[float, float]]) -> str:
    most, mean = max(most for most, _ in found), statistics.mean(mean for _, mean in found)
    return "other size" if np.isinf(most) else f"{most:.0f}, {mean:.4f}"


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=pathlib.Path, help="a folder of JPEG files, not searched below")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="of the random models; decoding is on the CPU always")
    parser.add_argument("--name", default="decoding")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    photos = [
        path.read_bytes() for path in sorted(options.photos.iterdir()) if path.suffix.lower() in (".jpg", ".jpeg")
    ]
    assert photos, f"{options.photos} holds no JPEG files"
    warnings.filterwarnings("ignore", "The image decoding", DeprecationWarning)
    ways = all_ways()
    megapixels = statistics.mean(math.prod(decode_image(data, PixelRules()).size) for data in photos) / 1e6
    size = f"{len(photos)} JPEGs, mean {megapixels:.2f} megapixels, {np.mean([*map(len, photos)]) / 1e3:.0f} kB"
    tables = [
        speed_table(f"bytes to input, {size}", dict(ways), photos, options.rounds),
        speed_table(
            f"decoding alone, {size}", {name: way.decode for name, way in ways.items()}, photos, options.rounds
        ),
    ]
    report(
        options.name,
        tables,
        "benchmarks.decoding",
        arguments,
        more=differences(ways, photos, torch.device(options.device)),
    )


if __name__ == "__main__":
    main()
