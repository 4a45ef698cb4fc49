"""What a loss cannot work on is refused by name before any arithmetic: the value, the rule, the remedy in one line.

Legend: B batch, C classes or channels, H height, W width.
"""

import torch
from torch import Tensor

from tcs.errors import ConfigError

Shaped = tuple[str, Tensor | None, str]  # name, tensor (None: not given), its shape as letters, numbers and dots


def require_pairs(rows: Tensor, loss: str) -> None:
    """ConfigError unless the batch has two rows or more: `loss` compares rows with each other."""
    if rows.shape[0] < 2:
        raise ConfigError(f"{loss} compares the rows of a batch and this one has {rows.shape[0]}; use 2 rows or more.")


def require_same_rows(student: Tensor, teacher: Tensor, loss: str) -> None:
    """ConfigError unless both sides have the same number of rows."""
    if student.shape[0] != teacher.shape[0]:
        raise ConfigError(
            f"{loss} has {student.shape[0]} student and {teacher.shape[0]} teacher rows; row i of both must be one image."
        )


def require_same_shape(student: Tensor, teacher: Tensor, loss: str, remedy: str = "project the student first") -> None:
    """ConfigError unless both sides have the same shape."""
    if student.shape != teacher.shape:
        shapes = f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)}"
        raise ConfigError(f"{loss} has {shapes}; it compares entry by entry: {remedy}.")


def require_vectors(rows: Tensor, loss: str) -> None:
    """ConfigError unless `rows` is a matrix, one vector a row."""
    if rows.ndim != 2:
        raise ConfigError(
            f"{loss} has an input of shape {tuple(rows.shape)}; it takes one vector a row: pool maps first."
        )


def require_map(maps: Tensor, loss: str, pooled: str) -> None:
    """ConfigError unless `maps` is (B, channels, H, W) with more than one position; `pooled` says what a single one would give."""
    if maps.ndim != 4:
        raise ConfigError(f"{loss} has an input of shape {tuple(maps.shape)}; it takes maps of shape (B, C, H, W).")
    if maps.shape[2] * maps.shape[3] < 2:
        raise ConfigError(f"{loss} has a map of one position (pooled features): {pooled}. Use a map before pooling.")


def require_labels(labels_B: Tensor, logits: Tensor, loss: str) -> Tensor:
    """The labels as int64. ConfigError unless there is one integer in 0..C-1 for each row of logits."""
    classes = logits.shape[1]
    if labels_B.is_floating_point() or labels_B.dtype == torch.bool:
        kind = "flags" if labels_B.dtype == torch.bool else "floating"
        raise ConfigError(f"{loss} has labels that are {kind}; they must be integers, the numbers of the classes.")
    if labels_B.shape != logits.shape[:1]:
        raise ConfigError(f"{loss} has {labels_B.numel()} labels for {logits.shape[0]} rows; it needs one for each.")
    if labels_B.numel() and (int(labels_B.min()) < 0 or int(labels_B.max()) >= classes):
        worst = int(labels_B.min()) if int(labels_B.min()) < 0 else int(labels_B.max())
        raise ConfigError(f"{loss} has the label {worst} with {classes} classes; leave unlabelled rows out of it.")
    return labels_B.long()


def require_positive(value: float, name: str) -> None:
    """ConfigError unless `value` is positive and finite."""
    if not 0 < value < float("inf"):
        raise ConfigError(f"{name} is {value}; it must be a positive number.")


def require_shapes(loss: str, *tensors: Shaped) -> None:
    """ConfigError unless all tensors have the shapes that go with their names, a letter meaning the same size everywhere.

    As in ("weight_TS", weight_TS, "T S"): a letter is bound by the first tensor that has it, a number is a size, "." any size.
    """
    bound: dict[str, tuple[int, str]] = {}
    for name, tensor, shape in tensors:
        if tensor is not None:
            _require_shape(loss, name, tensor, shape.split(), bound)


def _require_shape(loss: str, name: str, tensor: Tensor, symbols: list[str], bound: dict[str, tuple[int, str]]) -> None:
    sizes = tuple(tensor.shape)
    known = {symbol: bound[symbol] for symbol in symbols if symbol in bound}
    wanted = {symbol: size for symbol, (size, _) in known.items()} | {s: int(s) for s in symbols if s.isdigit()}
    if len(sizes) != len(symbols) or any(
        size != wanted.get(symbol, size) for size, symbol in zip(sizes, symbols, strict=True)
    ):
        rule = ", ".join(symbols) + ("," if len(symbols) == 1 else "")
        where = ", ".join(f"{symbol} = {size} as in {owner}" for symbol, (size, owner) in known.items())
        raise ConfigError(
            f"{loss} has {name} of shape {sizes}; it must be ({rule}){where and f' with {where}'}: "
            "give each tensor the dims of those that it meets."
        )
    for size, symbol in zip(sizes, symbols, strict=True):
        if symbol.isalpha():
            bound.setdefault(symbol, (size, name))


def require_dtype(features: Tensor, weight: Tensor, owner: str) -> None:
    """ConfigError unless features and a module's weight have one dtype; under autocast torch brings them together itself."""
    if features.dtype != weight.dtype and not torch.is_autocast_enabled(features.device.type):
        raise ConfigError(
            f"{owner} has weights of {weight.dtype} and features of {features.dtype}; convert one of them, as with .to(dtype)."
        )


def require_places(places_B: Tensor, batch: int, rows: int, loss: str) -> None:
    """ConfigError unless `places_B` are `batch` integers from 0 to below `rows`: which image of a run each row shows."""
    if places_B.shape != (batch,) or places_B.is_floating_point() or places_B.dtype == torch.bool:
        kind = f"{places_B.dtype} of shape {tuple(places_B.shape)}"
        raise ConfigError(f"{loss} has places that are {kind}; give {batch} integers, one for each row of the batch.")
    if batch and not 0 <= int(places_B.min()) <= int(places_B.max()) < rows:
        span = f"from {int(places_B.min())} to {int(places_B.max())}"
        raise ConfigError(f"{loss} has places {span} in a bank of {rows} rows; number the run's images from 0.")
