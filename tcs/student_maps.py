"""The maps that a student can give to losses: their shapes, measured before training. A map is (B, channels, height, width).

Legend: B batch rows, S student width.
"""

import torch
from torch import nn

from tcs.errors import ModelError
from tcs.student import StudentSpec, features_and_maps, first_line, pre_logits


def measured_maps(
    backbone: nn.Module, spec: StudentSpec, image_size: int, maps: int
) -> tuple[tuple[int, int, int], ...]:
    """(channels, height, width) of the last `maps` stages. ModelError where the model has fewer, or no way to give them."""
    images_B3HW = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    was_training = backbone.training
    try:
        with torch.no_grad():
            features_BS, stages = features_and_maps(backbone.eval(), images_B3HW, maps)
            same = torch.equal(features_BS, pre_logits(backbone, images_B3HW))
    except (AttributeError, AssertionError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"--model '{spec.text}' cannot give the maps of its last {maps} stages ({first_line(error)}); use a student with "
            f"more stages, a store with fewer map readouts, or a loss that reads no maps."
        ) from error
    finally:
        backbone.train(was_training)
    if not same or len(stages) != maps:
        raise ModelError(f"--model '{spec.text}' gives other features beside its maps; use a loss that reads no maps.")
    shapes = [(int(stage.shape[1]), int(stage.shape[2]), int(stage.shape[3])) for stage in stages]
    return tuple(shapes)
