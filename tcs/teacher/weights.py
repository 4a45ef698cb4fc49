"""What became of a model's weights: which tensors were given to it, which are missing, and the digest of all of them."""

import contextlib
import dataclasses
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from tcs.errors import ModelError, listed

SHOWN_KEYS = 3

# Batch norm counts its training steps; features do not depend on it, and old files lack it.
COUNTER = "num_batches_tracked"

# Norms between pooling and classifier: some published weights (ConvNeXt V2's FCMAE) lack them, and only `pool` reads them.
POOLED_NORMS = ("head.norm.", "fc_norm.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightsReport:
    """What of a file or download became the model's weights. `converted` names tensors whose values timm's own conversion
    changed (position embeddings of another image size, for one), with their shapes before and after."""

    file: str
    checkpoint_key: str = ""
    passed_over: tuple[str, ...] = ()
    layout: str = ""
    prefix: str = ""
    key_map: Mapping[str, str] = dataclasses.field(default_factory=dict)
    matched: int = 0
    renamed: int = 0
    converted: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    left_out: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For provenance: of what was left out only the counts and the first names."""
        short = {
            reason: {"keys": len(keys), "first": list(keys[:SHOWN_KEYS])} for reason, keys in self.left_out.items()
        }
        return {**dataclasses.asdict(self), "left_out": short}

    def describe(self) -> str:
        """One line."""
        parts = [f"{self.matched} tensors" + (f" (layout {self.layout})" if self.layout else "")]
        parts += [f"from '{self.checkpoint_key}'"] if self.checkpoint_key else []
        parts += [f"not from {listed(self.passed_over, SHOWN_KEYS)}"] if self.passed_over else []
        parts += [f"prefix '{self.prefix}' taken off"] if self.prefix else []
        parts += [f"{self.renamed} renamed by timm"] if self.renamed else []
        parts += [f"converted by timm: {listed(self.converted, SHOWN_KEYS)}"] if self.converted else []
        parts += [f"missing, and not read: {listed(self.missing, SHOWN_KEYS)}"] if self.missing else []
        parts += [
            f"left out: {len(keys)} {reason} ({listed(keys, SHOWN_KEYS)})" for reason, keys in self.left_out.items()
        ]
        return f"weights {self.file}: {'; '.join(parts)}."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Load:
    """One call of load_state_dict: what was given, and what did not match."""

    given: Mapping[str, torch.Tensor]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    strict: bool


_one_recording = threading.RLock()  # the method is one for all threads: who puts it back must be who replaced it


@contextlib.contextmanager
def recorded_loads() -> Iterator[list[Load]]:
    """Record what every load_state_dict in this block is given and what does not match, and let gaps pass for our own check.

    timm loads some architectures leniently (dla, mobilenetv5, FCMAE weights) and tells no caller which keys it found, so
    torch is asked at the one place that all of timm's loaders go through. Shapes that differ still raise. Loads of other
    threads are what they always are; another thread's recording begins after this one.
    """
    with _one_recording:
        loads: list[Load] = []
        plain = nn.Module.load_state_dict
        nn.Module.load_state_dict = _recording(plain, loads)  # type: ignore[method-assign]
        try:
            yield loads
        finally:
            nn.Module.load_state_dict = plain  # type: ignore[method-assign]


def _recording(plain: Callable[..., Any], loads: list[Load]) -> Callable[..., Any]:
    """`plain` load_state_dict, which for the thread that calls this is lenient, and records what it meets in `loads`."""
    own_thread = threading.get_ident()

    def load_recorded(self: nn.Module, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        if threading.get_ident() != own_thread:
            return plain(self, state_dict, strict=strict, assign=assign)
        given = dict(state_dict)
        loads.append(Load(given=given, missing=(), unexpected=(), strict=strict))
        found = plain(self, state_dict, strict=False, assign=assign)
        missing, unexpected = tuple(found.missing_keys), tuple(found.unexpected_keys)
        loads[-1] = Load(given=given, missing=missing, unexpected=unexpected, strict=strict)
        return found

    return load_recorded


def require_read_weights(name: str, report: WeightsReport, readouts: Sequence[str]) -> None:
    """Raise ModelError where a readout needs weights that the report lacks."""
    if report.missing and "pool" in readouts:
        raise ModelError(
            f"the weights of {name} lack {listed(report.missing, SHOWN_KEYS)}, which --readout pool needs; use another --readout."
        )


def classifier_prefixes(model: nn.Module) -> tuple[str, ...]:
    """How the names of the classifier's weights begin, with the dot."""
    config: Mapping[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    names = config.get("classifier") or ()
    return tuple(f"{name}." for name in ((names,) if isinstance(names, str) else names))


def digest_of_weights(model: nn.Module) -> str:
    """BLAKE2b over names, shapes, dtypes and bytes of the state dict, sorted by name, classifier and counters left out.

    So a file with and one without its classifier, or in float16 and widened, give the same teacher the same digest.
    """
    prefixes = classifier_prefixes(model)
    digest = hashlib.blake2b(digest_size=16)
    for key, value in sorted(model.state_dict().items()):
        if key.startswith(prefixes) or key.endswith(COUNTER):
            continue
        digest.update(f"{key}\0{tuple(value.shape)}\0{value.dtype}\0".encode())
        digest.update(bytes_of(value))
    return digest.hexdigest()


def bytes_of(value: torch.Tensor) -> memoryview:
    """A tensor's values as plain bytes, in its own dtype."""
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def digest_of_values(value: torch.Tensor) -> bytes:
    """A digest of the values alone: the same for a tensor under another name or in another shape."""
    return hashlib.blake2b(bytes_of(value), digest_size=16).digest()
