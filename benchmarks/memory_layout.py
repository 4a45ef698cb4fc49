"""A teacher's forward pass in the default memory layout and in channels_last, for many architectures: the table behind `tcs extract`.

    OMP_NUM_THREADS=1 python -m benchmarks.memory_layout --rounds 5

Processor time of a batch of noise on one thread, the layouts taking turns; weights are random, which costs the same time. A row an
architecture goes to results/memory-layout/results.csv as it is measured, and what stands there is not measured again: `gain` is time in
the default layout by time in channels_last, median, least and most over the rounds, `difference` the largest difference of a feature
by the largest feature. `tcs/teacher/memory_layout.py` has the families that gain, and a test holds it against this file.
"""

import argparse
import copy
import pathlib
import statistics
import time

import timm
import torch

from benchmarks.turns import seconds_in_turns
from tcs.plain_files import load_table, save_table
from tcs.teacher.memory_layout import family_of

RESULTS = pathlib.Path(__file__).parent / "results" / "memory-layout" / "results.csv"
COLUMNS = (
    "architecture",
    "family",
    "img_size",
    "batch_size",
    "rounds",
    "gain",
    "gain_least",
    "gain_most",
    "difference",
)
SIZE, SIZES = 160, 224  # pixels; of the architectures whose windows ask for it
FIXED_SIZE = ("swin", "efficientformer", "levit", "coatnet", "tiny_vit", "maxvit", "fastvit")
ARCHITECTURES = (
    *("resnet18", "resnet50", "wide_resnet50_2", "resnext50_32x4d", "seresnet50", "resnetv2_50", "res2net50_26w_4s"),
    *("tf_efficientnet_lite0", "tf_efficientnet_lite2", "efficientnet_b0", "tf_efficientnetv2_s", "mobilenetv2_100"),
    *("mobilenetv3_small_100", "mobilenetv3_large_100", "mobilenetv4_conv_small", "ghostnet_100", "rexnet_100"),
    *("regnety_008", "regnetx_016", "densenet121", "dla34", "vgg11", "vovnet39a", "hrnet_w18_small", "cspresnet50"),
    *("repvgg_a2", "nfnet_l0", "inception_v3", "convnext_tiny", "convnextv2_atto", "poolformer_s12", "edgenext_small"),
    *("vit_small_patch16_224", "vit_base_patch16_224", "deit3_small_patch16_224", "eva02_tiny_patch14_224"),
    *("swin_tiny_patch4_window7_224", "efficientformer_l1", "levit_128s", "coatnet_0_rw_224", "tiny_vit_5m_224"),
    *("fastvit_t8", "mobilevit_s", "repvit_m1", "starnet_s2", "mobileone_s1"),
)


def main() -> None:
    """Measure what is not measured yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = load_table(RESULTS)
    done = {row["architecture"] for row in rows}
    for name in ARCHITECTURES:
        if name not in done:
            rows.append(measured(name, options.rounds, options.batch_size))
            print(*rows[-1].values(), flush=True)
            RESULTS.parent.mkdir(parents=True, exist_ok=True)
            save_table(RESULTS, rows, COLUMNS)


@torch.inference_mode()
def measured(name: str, rounds: int, batch_size: int) -> dict[str, str]:
    """The row of an architecture."""
    size = SIZES if name.startswith(FIXED_SIZE) else SIZE
    kwargs = {"img_size": size} if name.startswith(("vit", "deit", "eva")) else {}
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0, **kwargs).eval()
    other = copy.deepcopy(model).to(memory_format=torch.channels_last)
    images = torch.randn(batch_size, 3, size, size)
    laid_out = images.contiguous(memory_format=torch.channels_last)
    features, others = model(images), other(laid_out)  # which warms up, too
    contestants = {"default": lambda: model(images), "channels_last": lambda: other(laid_out)}
    seconds = seconds_in_turns(contestants, rounds, clock=time.process_time)
    gains = [first / second for first, second in zip(seconds["default"], seconds["channels_last"], strict=True)]
    difference = float((features - others).abs().max() / features.abs().max())
    facts = (name, family_of(model), size, batch_size, rounds)
    numbers = (f"{statistics.median(gains):.2f}", f"{min(gains):.2f}", f"{max(gains):.2f}", f"{difference:.1e}")
    return dict(zip(COLUMNS, map(str, (*facts, *numbers)), strict=True))


if __name__ == "__main__":
    main()
