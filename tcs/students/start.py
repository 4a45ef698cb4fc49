"""What a student starts from beside random weights: timm's published ones, or a state dict in a local file.

Both are checked before any image is read: a file against the architecture, published weights for whether they can be had at all.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import huggingface_hub.constants
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

import cache
from tcs.errors import ModelError, first_line, listed
from tcs.hub import hub_answers, repository_of
from tcs.ordinary import read_ordinary, require_ordinary
from tcs.students.backbone import StudentSpec

NESTED = ("state_dict", "model")  # where training scripts put the weights beside other things
WRAPPED = "module."  # DistributedDataParallel puts it before every name
COUNTER = "num_batches_tracked"  # of batch norms; old files lack it, and no output depends on it
SHOWN = 3


def require_published_weights(spec: StudentSpec) -> None:
    """ModelError, naming model, file and remedy, where timm has no weights for the student or they cannot be had at once.

    They can be had from the Hub's local cache, or from a Hub that takes a connection; else its client would try for a minute.
    """
    entry = timm.get_pretrained_cfg(spec.name) if timm.is_model(spec.name.partition(".")[0]) else None
    if entry is not None and not entry.has_weights:
        raise ModelError(
            f"--pretrained: timm has no published weights for student '{spec.name}'; leave it out, or give a file with "
            "--student-checkpoint."
        )
    repository = repository_of(entry)
    if repository is not None and not repository.is_cached and not hub_answers():
        raise ModelError(
            f"--pretrained: the weights of student '{spec.name}' ({repository.name}, {repository.files[0]}) are not in the local cache "
            f"{huggingface_hub.constants.HF_HUB_CACHE}, and the Hub cannot be reached; connect once, or give a local file: "
            "--student-checkpoint FILE."
        )


def load_start(backbone: nn.Module, path: str, spec: StudentSpec) -> None:
    """Give the backbone the weights in a file, all but those of its classifier.

    The file is a state dict of the same architecture, as .safetensors (such as a run's folded.safetensors) or of torch.save, alone or
    under `state_dict` or `model`. ModelError where it cannot be read, lacks weights, has others, or has them in other shapes.
    """
    head = tuple(f"{name}." for name in _classifier_names(backbone))
    given = {key: value for key, value in read_weights(path).items() if not key.startswith(head)}
    own = {key: value for key, value in backbone.state_dict().items() if not key.startswith(head)}
    missing = [key for key in own if key not in given and not key.endswith(COUNTER)]
    unknown = [key for key in given if key not in own]
    if missing or unknown:
        raise ModelError(
            f"--student-checkpoint {path} is not of '{spec.text}': it lacks {len(missing)} of its {len(own)} tensors "
            f"({listed(missing, SHOWN)}) and has {len(unknown)} others ({listed(unknown, SHOWN)}); give a state dict of that "
            "timm model."
        )
    for key, value in given.items():
        if value.shape != own[key].shape:
            raise ModelError(
                f"--student-checkpoint {path} has {key} of shape {list(value.shape)}, and '{spec.text}' has "
                f"{list(own[key].shape)}; give the student the arguments it was trained with (as img_size=...)."
            )
    backbone.load_state_dict(given, strict=False)


def read_weights(path: str) -> dict[str, Tensor]:
    """The tensors by name in a .safetensors file or one of torch.save (read without pickled code); ModelError otherwise."""
    try:
        require_ordinary(path)
        if pathlib.Path(path).suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader raises nearly everything for what is no such file
        raise ModelError(
            f"--student-checkpoint {path} cannot be read ({first_line(error)}); give a .safetensors file, or one of torch.save "
            "with tensors alone."
        ) from error
    for name in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(item, Tensor) for item in content.values())
    ):
        raise ModelError(
            f"--student-checkpoint {path} holds no state dict, nor one under {' or '.join(NESTED)}; give a timm model's."
        )
    return {str(key).removeprefix(WRAPPED): value for key, value in content.items()}


def digest_of_file(path: str) -> str:
    """BLAKE2b of its bytes, 16 of them in hex; ModelError where it cannot be read."""
    try:
        return cache.digest_of_bytes(read_ordinary(path))
    except OSError as error:
        raise ModelError(
            f"--student-checkpoint {path} cannot be read ({error.strerror}); give a file of weights."
        ) from error


def _classifier_names(backbone: nn.Module) -> tuple[str, ...]:
    config: Mapping[str, Any] = getattr(backbone, "pretrained_cfg", None) or {}
    names = config.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)
