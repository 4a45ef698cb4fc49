"""Cached views shown again in batches on the device, from frames that hold the whole image squashed to a square.

A view's box is kept relative to the image, so it finds the same part in the squashed frame. On the frame itself the levels are those
of `tcs.augmentation.views.replay` within rounding. Against the original image, the squash resamples once more: for 48 views of 224 px of 24
photographs (0.18 megapixels, boxes of 20 to 100 % of the area) the mean absolute difference is 2.9 levels of 255 with frames of
256 px, 1.8 with 320 px and 1.0 with 448 px; the worst view differs by 10, 7 and 3.

Legend: B batch rows, S frame side in pixels, P parameters of a view (`tcs.augmentation.views.PARAMETERS`).
"""

from torch import Tensor

from tcs.augmentation.apply import apply
from tcs.augmentation.draws import Draws
from tcs.augmentation.views import PARAMETERS
from tcs.config.augment import INTERPOLATIONS
from tcs.errors import DataError, require_choice

BOX, FLIP, COLOURS, GREY = slice(0, 4), 4, slice(5, 9), 9  # columns of PARAMETERS


def replay_views(frames_B3SS: Tensor, parameters_BP: Tensor, size: int, interpolation: str = "bicubic") -> Tensor:
    """uint8 (B, 3, size, size): of frame b the view with parameters b, on the frames' device.

    frames_B3SS uint8; parameters_BP float32. DataError for another number of parameters, or for frames that are not square;
    ConfigError for an interpolation that is not known.
    """
    if parameters_BP.ndim != 2 or parameters_BP.shape[1] != len(PARAMETERS):
        raise DataError(
            f"parameters of views have shape {tuple(parameters_BP.shape)}; it must be (B, {len(PARAMETERS)}), one row a view."
        )
    return apply(frames_B3SS, as_draws(parameters_BP, interpolation), size)


def as_draws(parameters_BP: Tensor, interpolation: str = "bicubic") -> Draws:
    """The parameters of B views as draws of a random resized crop, a flip, colours and grey."""
    require_choice(interpolation, INTERPOLATIONS, "--interpolation")
    parameters_BP = parameters_BP.float().cpu()
    return Draws(
        count=len(parameters_BP),
        interpolation=interpolation,
        boxes_B4=parameters_BP[:, BOX],
        hflips_B=parameters_BP[:, FLIP] != 0,
        colours_B4=parameters_BP[:, COLOURS],
        greys_B=parameters_BP[:, GREY] != 0,
    )
