"""The rows of a shard, from the batches of images that the teacher has seen.

Legend: n good images of a batch, R rows of a shard, V views, P parameters of a view, D teacher dims.
"""

from collections.abc import Sequence

import numpy as np

import cache
from cache.fingerprint import DIGEST_BYTES
from tcs.extraction.counted import Counted
from tcs.extraction.decoding import DecodedBatch
from tcs.teacher.model import Teacher


def batch_rows(teacher: Teacher, batch: DecodedBatch, plan: cache.Plan) -> dict[str, np.ndarray]:
    """float32 (n, *plan.row_shape) of each readout for the n good images of the batch; a pass of the teacher for each view."""
    good = [row for row, item in enumerate(batch.items) if item.reason is None]
    found = [teacher.features(images_B3HW) for images_B3HW in batch.images_VB3HW]
    if plan.views is None:
        return {name: value.numpy()[good] for name, value in found[0].items()}
    return {name: np.stack([view[name].numpy()[good] for view in found], axis=1) for name in found[0]}


def shard_rows(plan: cache.Plan, parts: Sequence[tuple[DecodedBatch, dict[str, np.ndarray]]]) -> cache.ShardRows:
    """One shard from its batches: R rows for the good images, a quarantine entry for each bad one; its note is what was counted."""
    items = [item for batch, _ in parts for item in batch.items]
    good = [item for item in items if item.reason is None]
    counted = Counted()
    counted.add(items, plan.keys)
    hashes = b"".join(item.content_hash for item in good)
    return cache.ShardRows(
        positions_N=np.array([item.position for item in good], dtype=np.int64),
        hashes_N16=np.frombuffer(hashes, dtype=np.uint8).reshape(-1, DIGEST_BYTES),
        features={name: np.concatenate([features[name] for _, features in parts]) for name in parts[0][1]},
        images=None if plan.images == "none" else [item.kept or b"" for item in good],
        views_NVP=None if plan.views is None else _view_rows(plan.views, [batch for batch, _ in parts]),
        quarantine=[
            cache.Quarantined(position=item.position, key=plan.keys[item.position], reason=item.reason)
            for item in items
            if item.reason is not None
        ],
        note=counted.to_json(),
    )


def _view_rows(views: cache.Views, batches: Sequence[DecodedBatch]) -> np.ndarray:
    """Parameters of the good images' views, float32 (R, V, P)."""
    found = [parameters_VP for batch in batches for parameters_VP in batch.views if parameters_VP is not None]
    return np.array(found, np.float32).reshape(len(found), views.count, len(views.parameters))
