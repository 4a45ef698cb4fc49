"""Augmentation of a batch, one draw an image: at once, against image after image with torchvision v2 and with Pillow.

    python -m benchmarks.augmentation --rounds 15
    python -m benchmarks.augmentation --rounds 15 --threads 1 --processor-time --setting 32x128 --setting 64x64 --setting 224x32

Each contestant draws and changes a whole batch, SIDE x IMAGES by `--setting`; resized crops are from frames of 8/7 of the side
where that is 64 pixels or more. Pillow converts from and to arrays and loads to the device, as a loader would. `one draw a
batch` is what torchvision v2 does with a batch: it shows all images the same box and colours, so it is no substitute. `pad, crop and
flip in turn` are the three copies of a batch that a GPU makes, where a CPU makes one of each image.
Letters: B batch, S side in pixels.
"""

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from benchmarks.turns import Table, per_second, report, seconds_in_turns
from tcs.augmentation.apply import apply
from tcs.augmentation.draws import Draws, draw
from tcs.augmentation.pixels import flip, pad_crop
from tcs.augmentation.views import replay
from tcs.config.augment import AugmentConfig
from tcs.runtime import pick_device

BASE = "Pillow, image by image"
SCALE, RATIO = (0.2, 1.0), (0.75, 4 / 3)
CONFIGS = {
    "pad-crop, flip": AugmentConfig(crop_padding=1 / 8, hflip=0.5),
    "resized crop, flip": AugmentConfig(scale=SCALE, ratio=RATIO, hflip=0.5),
    "resized crop, flip, colours, grey, erasing": AugmentConfig(
        scale=SCALE, ratio=RATIO, hflip=0.5, color_jitter=0.4, grayscale_prob=0.2, reprob=0.25
    ),
}


def by_pillow(images_B3SS: Tensor, draws: Draws, side: int) -> Tensor:
    """uint8 (B, 3, side, side): every image for itself, by the same draws."""
    images = [Image.fromarray(array) for array in images_B3SS.permute(0, 2, 3, 1).numpy()]
    shown = pad_cropped(images, draws, side) if draws.boxes_B4 is None else replayed(images, draws, side)
    return torch.from_numpy(np.stack([np.asarray(image) for image in shown])).permute(0, 3, 1, 2).contiguous()


def pad_cropped(images: list[Image.Image], draws: Draws, side: int) -> list[Image.Image]:
    """Padded, cut and mirrored."""
    assert draws.offsets_B2 is not None
    assert draws.hflips_B is not None
    padded = [ImageOps.expand(image, draws.padding) for image in images]
    places = draws.offsets_B2.tolist()
    cut = [image.crop((x, y, x + side, y + side)) for image, (y, x) in zip(padded, places, strict=True)]
    return [ImageOps.mirror(image) if flipped else image for image, flipped in zip(cut, draws.hflips_B, strict=True)]


def replayed(images: list[Image.Image], draws: Draws, side: int) -> list[Image.Image]:
    """Resized crops, flips, colours and grey as `tcs.augmentation.views` shows them, and at most one rectangle painted over."""
    assert draws.boxes_B4 is not None
    assert draws.hflips_B is not None
    neutral_B4 = torch.tensor([1.0, 1, 1, 0]).expand(draws.count, 4)
    colours_B4 = neutral_B4 if draws.colours_B4 is None else draws.colours_B4
    greys_B = torch.zeros(draws.count) if draws.greys_B is None else draws.greys_B
    views_BP = torch.cat([draws.boxes_B4, draws.hflips_B[:, None], colours_B4, greys_B[:, None]], 1).float().numpy()
    shown = [replay(image, view_P, (side, side)) for image, view_P in zip(images, views_BP, strict=True)]
    if draws.holes_BR4 is not None:
        for image, (high, wide, down, across) in zip(shown, draws.holes_BR4[:, 0].tolist(), strict=True):
            top, left = int(down * side * (1 - high)), int(across * side * (1 - wide))
            image.paste((124, 116, 104), (left, top, left + int(wide * side), top + int(high * side)))
    return shown


def in_turn(images_B3SS: Tensor, draws: Draws) -> Tensor:
    """Padded and cut, then mirrored, each for the whole batch."""
    assert draws.offsets_B2 is not None
    assert draws.hflips_B is not None
    return flip(pad_crop(images_B3SS, draws.offsets_B2, draws.padding), draws.hflips_B)


def torchvision_transform(config: AugmentConfig, side: int) -> Callable[[Tensor], Tensor]:
    """The same kinds of changes by torchvision v2, on uint8."""
    if config.scale is None:
        steps = [v2.RandomCrop(side, padding=config.padding(side)), v2.RandomHorizontalFlip(config.hflip)]
    else:
        bicubic = InterpolationMode.BICUBIC
        crop = v2.RandomResizedCrop(side, config.scale, config.ratio, interpolation=bicubic, antialias=True)
        steps = [crop, v2.RandomHorizontalFlip(config.hflip)]
    if config.color_jitter:
        c = config.color_jitter
        steps += [v2.ColorJitter(c, c, c, c / 4), v2.RandomGrayscale(config.grayscale_prob)]
        steps += [v2.RandomErasing(config.reprob, value=[124, 116, 104])]
    transform: Callable[[Tensor], Tensor] = v2.Compose(steps)
    return transform


def contestants(
    images_B3SS: Tensor, config: AugmentConfig, side: int, device: torch.device
) -> dict[str, Callable[[], None]]:
    """Every way to a batch of (B, 3, side, side) on the device."""
    generator = torch.Generator().manual_seed(0)
    resident, batch = images_B3SS.to(device), len(images_B3SS)
    transform = torchvision_transform(config, side)
    ways: dict[str, Callable[[], Tensor]] = {
        BASE: lambda: by_pillow(images_B3SS, draw(config, side, batch, generator), side).to(device),
        "torchvision v2, image by image": lambda: torch.stack([transform(image) for image in resident]),
        "torchvision v2, one draw a batch": lambda: transform(resident),
        "tcs, the batch at once": lambda: apply(resident, draw(config, side, batch, generator), side),
    }
    if config.scale is None:
        ways["tcs, pad, crop and flip in turn"] = lambda: in_turn(resident, draw(config, side, batch, generator))
    return {name: _finished(way, device) for name, way in ways.items()}


def _finished(way: Callable[[], Tensor], device: torch.device) -> Callable[[], None]:
    def run() -> None:
        way()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


def frames(batch: int, side: int) -> Tensor:
    """uint8 (B, 3, S, S): soft pictures with noise, the same every time."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, 3, 8, 8, generator=generator)
    soft = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    return ((soft + 0.1 * torch.rand(soft.shape, generator=generator)) * 230).to(torch.uint8)


def table(setting: str, title: str, rounds: int, device: torch.device, clock: Callable[[], float] | None) -> Table:
    """One setting and one kind of augmentation."""
    side, batch = (int(number) for number in setting.split("x"))
    config = CONFIGS[title]
    source = side if side < 64 or config.scale is None else side * 8 // 7
    runs = contestants(frames(batch, source), config, side, device)
    for run in runs.values():  # unmeasured: allocations, algorithm choice
        run()
    speeds = per_second(seconds_in_turns(runs, rounds, clock), batch)
    title = f"{title}: {batch} images, {source} to {side} px, {device.type}"
    return Table(title=title, unit="images/s", base=BASE, values=speeds)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", action="append", help="SIDExIMAGES, repeatable  [default: 32x128 and 224x64]")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch; Pillow uses one")
    parser.add_argument("--processor-time", action="store_true", help="of this process, where a machine is shared")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--name", default="augmentation")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    settings = options.setting or ["32x128", "224x64"]
    clock = time.process_time if options.processor_time else None
    tables = [table(setting, title, options.rounds, device, clock) for setting in settings for title in CONFIGS]
    report(options.name, tables, "benchmarks.augmentation", arguments, more=f"torch uses {options.threads} threads.")


if __name__ == "__main__":
    main()
