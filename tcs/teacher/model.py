"""The frozen teacher: a model with its weights, its own preprocessing, and its readouts.

Legend: B batch, H W height and width, D teacher dims.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from PIL import Image
from timm.data import create_transform
from torch import nn

from tcs.config.extract import ExtractConfig
from tcs.config.plain import with_tuples
from tcs.errors import ConfigError, ModelError, TcsError, first_line
from tcs.runtime import pick_device, say
from tcs.teacher.availability import from_cache_alone, require_at_hand
from tcs.teacher.checkpoint import fill, from_file
from tcs.teacher.hub import build, from_hub, read_folder, weights_in
from tcs.teacher.licence import licence_line, licence_of
from tcs.teacher.memory_layout import is_faster_channels_last
from tcs.teacher.outputs import has_feature_map, read_outputs
from tcs.teacher.preprocessing import card_of, describe, require_possible, resolve_preprocessing, stated_preprocessing
from tcs.teacher.projection import Projection, resize_map
from tcs.teacher.readouts import read_features, require_consistent, require_readouts
from tcs.teacher.source import TeacherSource, make_module, parse_source, require_known_teacher
from tcs.teacher.weights import WeightsReport, digest_of_weights, require_read_weights

# Settled by us: readouts, classifier and weights have options or rules of their own.
RESERVED_KWARGS = ("global_pool", "num_classes", "in_chans", "features_only", "model_name", "cache_dir")

RESERVED_PREFIX = "pretrained"  # pretrained_strict=False, for one, would let a gap in the weights pass
COMPUTE_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# (name, kwargs as text) of what timm has built in this process: to ask again would take a third of a second and more.
_BUILT: set[tuple[str, str]] = set()

# Raised by hand, only when the same inputs would give other features.
SEMANTICS = 1


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Teacher:
    """A frozen model with float32 weights on `device`, ready to read `readouts` (name -> D) from normalised images.

    `grids` holds (H, W) of the readouts that are maps, after resizing to `map_size`; `projections` act on what is read.
    `transform` maps an RGB PIL image to float32 (3, H, W). `identity` is the JSON that decides the features' values;
    `provenance` is the JSON that does not: where the weights are from, what was taken of them, their licence. `channels_last` is the
    memory layout of the pass, which changes features by rounding alone, as other hardware does.
    """

    model: nn.Module
    device: torch.device
    readouts: Mapping[str, int]
    preprocessing: Mapping[str, Any]
    identity: Mapping[str, Any]
    provenance: Mapping[str, Any]
    weights: WeightsReport
    transform: Callable[[Image.Image], torch.Tensor]
    grids: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    map_size: tuple[int, int] | None = None
    channels_last: bool = False
    projections: Mapping[str, Projection] = dataclasses.field(default_factory=dict)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one normalised image."""
        channels, height, width = self.preprocessing["input_size"]
        return channels, height, width

    def announce(self) -> None:
        """Say whose teacher this is, under what licence, how its images are prepared, and what of its weights was taken."""
        say(f"teacher {self.provenance['spec']}: {licence_line(self.provenance)}; {describe(self.preprocessing)}.")
        say(self.weights.describe())

    def features(self, images_B3HW: torch.Tensor) -> dict[str, torch.Tensor]:
        """The readouts of a batch (float32, on any device), each float32 (B, D) on the CPU, maps (B, H, W, D).

        TF32 is off: the store's compute dtype is float32, and says so. Other compute dtypes run under autocast.
        """
        dtype = COMPUTE_DTYPES[self.identity["compute_dtype"]]
        read = read_features if has_feature_map(self.model) else read_outputs
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(allow_tf32=False),
            torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32),
        ):
            found = read(self.model, self._laid_out(images_B3HW.to(self.device)), tuple(self.readouts))
            return {name: self._stored(name, value).cpu() for name, value in found.items()}

    def _laid_out(self, images_B3HW: torch.Tensor) -> torch.Tensor:
        """The images in the memory layout of the pass."""
        return images_B3HW.contiguous(memory_format=torch.channels_last) if self.channels_last else images_B3HW

    def _stored(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """A readout as it is stored: a map at `map_size`, and projected where there is a projection."""
        if self.map_size is not None and value.ndim == 4:
            value = resize_map(value, self.map_size)
        return self.projections[name].apply(value) if name in self.projections else value


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Loaded:
    """A model with its weights, and what is known of how they came."""

    model: nn.Module
    weights: WeightsReport
    code: Mapping[str, str] | None = None  # of a Python function's file


def require_obtainable(config: ExtractConfig) -> None:
    """Raise ModelError where it is plain that `load_teacher` cannot get the weights; for use before long work."""
    require_at_hand(parse_source(config.teacher), config.teacher_checkpoint is not None)


def load_teacher(config: ExtractConfig) -> Teacher:
    """The teacher that `config` names, weights complete, in eval mode on its device.

    ModelError or ConfigError, one line each: unknown name, kwargs or readout; weights that are absent or do not fit.
    """
    source = parse_source(config.teacher)
    if source.kind != "factory":  # whose readouts are known once it is there
        require_readouts(config.readouts)
    require_possible(config)
    require_known_teacher(config.teacher)
    device = pick_device(config.device)
    with from_cache_alone(source, config.teacher_checkpoint is not None):
        loaded = _load(config, source)
    model = loaded.model.eval().requires_grad_(False)
    if has_feature_map(model):
        require_readouts(config.readouts)
    require_read_weights(config.teacher, loaded.weights, config.readouts)
    resolve = stated_preprocessing if source.kind == "factory" else resolve_preprocessing
    preprocessing = resolve(model, config)
    channels_last = config.teacher_channels_last
    if channels_last is None:
        channels_last = is_faster_channels_last(model, device)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    teacher = Teacher(
        model=model.to(device),
        device=device,
        readouts=dict.fromkeys(config.readouts, 0),
        preprocessing=preprocessing,
        identity=_identity(config, source, model, preprocessing),
        provenance=_provenance(config, source, loaded),
        weights=loaded.weights,
        transform=create_transform(**with_tuples(preprocessing), is_training=False),
        map_size=config.map_size,
        channels_last=channels_last,
    )
    shapes = _measure(teacher, config.teacher)
    return dataclasses.replace(
        teacher,
        readouts={name: shape[-1] for name, shape in shapes.items()},
        grids={name: (shape[0], shape[1]) for name, shape in shapes.items() if len(shape) == 3},
    )


def _load(config: ExtractConfig, source: TeacherSource) -> _Loaded:
    """The model in its weights, by the kind of source. ModelError or ConfigError as `load_teacher`."""
    path = None if config.teacher_checkpoint is None else pathlib.Path(config.teacher_checkpoint)
    if source.kind == "factory":
        return _from_factory(config, source, path)
    if source.kind == "local-dir":
        read_folder(pathlib.Path(source.rest))
        path = path or weights_in(pathlib.Path(source.rest))
    kwargs = _model_kwargs(config)
    if path is None:
        model, weights = from_hub(config.teacher, kwargs)
    else:
        model, weights = from_file(
            config.teacher, kwargs, path, checkpoint_key=config.checkpoint_key, key_map=config.key_map
        )
    return _Loaded(model=model, weights=weights)


def _from_factory(config: ExtractConfig, source: TeacherSource, path: pathlib.Path | None) -> _Loaded:
    """The user's own module, with the weights it came with or those of a file."""
    kwargs = dict(config.teacher_kwargs)
    _as_json(kwargs)
    model, code = make_module(source, kwargs)
    if path is None:
        weights = WeightsReport(file=f"of {config.teacher} itself", matched=len(model.state_dict()))
    else:
        weights = fill(model, config.teacher, path, checkpoint_key=config.checkpoint_key, key_map=config.key_map)
    return _Loaded(model=model, weights=weights, code=code)


def _model_kwargs(config: ExtractConfig) -> dict[str, Any]:
    """--teacher-kwargs, and img_size for the architectures whose constructor takes one. ConfigError for unfit ones."""
    kwargs = dict(config.teacher_kwargs)
    _as_json(kwargs)
    reserved = [name for name in kwargs if name in RESERVED_KWARGS or name.startswith(RESERVED_PREFIX)]
    if reserved:
        raise ConfigError(f"--teacher-kwargs {reserved[0]} is settled by tcs extract; leave it out (see --readout).")
    if config.img_size is None:
        return kwargs
    if kwargs.setdefault("img_size", config.img_size) != config.img_size:
        raise ConfigError(
            f"--img-size {config.img_size} and --teacher-kwargs img_size={kwargs['img_size']} differ; give one of them."
        )
    if "img_size" in config.teacher_kwargs or _takes_img_size(config.teacher, kwargs):
        return kwargs
    del kwargs["img_size"]
    return kwargs


def _takes_img_size(name: str, kwargs: Mapping[str, Any]) -> bool:
    """Whether the architecture's constructor has an img_size (asked on the meta device: no memory, no arithmetic)."""
    asked = (name, repr(dict(kwargs)))
    if asked in _BUILT:
        return True
    try:
        with torch.device("meta"):
            build(name, kwargs)
    except ModelError as error:
        return "'img_size'" not in str(error)  # "... got an unexpected keyword argument 'img_size'"
    _BUILT.add(asked)
    return True


def _identity(
    config: ExtractConfig, source: TeacherSource, model: nn.Module, preprocessing: Mapping[str, Any]
) -> dict[str, Any]:
    """All that decides a feature's value and stands in no other field of the store's plan.

    Where a folder lies decides nothing, so local-dir stands there as its architecture and arguments.
    """
    name, kwargs = config.teacher, dict(config.teacher_kwargs)
    if source.kind == "local-dir":
        name, saved = read_folder(pathlib.Path(source.rest))
        kwargs = {key: value for key, value in (saved | kwargs).items() if key != "num_classes"}
    return {
        "teacher": name,
        "teacher_kwargs": _as_json(kwargs),
        "teacher_weights": digest_of_weights(model),
        "preprocessing": dict(preprocessing),
        "compute_dtype": config.compute_dtype,
        "semantics": SEMANTICS,
    }


def _provenance(config: ExtractConfig, source: TeacherSource, loaded: _Loaded) -> dict[str, Any]:
    """Recorded, never compared: source, licence, what was taken of the weights, the file of a Python function."""
    card = card_of(loaded.model)
    if source.kind == "timm" and config.teacher_checkpoint is not None and "." not in config.teacher:
        card = {}  # timm's entry speaks of the weights that timm publishes, and a file holds others
    origins = {"timm": "timm", "hf-hub": "config.json", "local-dir": "config.json", "factory": "the module"}
    origin = origins[source.kind] + (", by its tag" if card and config.teacher_checkpoint is not None else "")
    return {
        "source": source.kind,
        "spec": config.teacher,
        **licence_of(card, origin),
        "weights": loaded.weights.as_json(),
        **({} if loaded.code is None else {"code": dict(loaded.code)}),
    }


def _as_json(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """--teacher-kwargs as JSON gives them back. The one part of a configuration of which Python code may put in anything, and a
    part of an identity: so NaN is refused too, and what cannot be recorded is an error of the user's."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(kwargs, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"--teacher-kwargs {kwargs} cannot be recorded ({error}); use numbers, text, lists."
        ) from error
    return plain


def _measure(teacher: Teacher, name: str) -> dict[str, tuple[int, ...]]:
    """Shape of each readout, measured on one image of noise: num_features is wrong for one architecture in five."""
    noise_13HW = torch.randn(1, *teacher.input_shape, generator=torch.Generator().manual_seed(0))
    try:
        found = teacher.features(noise_13HW)
        if has_feature_map(teacher.model):
            with torch.inference_mode():
                require_consistent(teacher.model, noise_13HW.to(teacher.device), tuple(teacher.readouts))
    except TcsError:
        raise
    except (Exception, SystemExit) as error:  # whatever an architecture, or the user's module, makes of an image
        size = "x".join(map(str, teacher.input_shape))
        raise ModelError(
            f"teacher {name} cannot process an image of {size} ({first_line(error)}); choose another --img-size."
        ) from error
    return {readout: tuple(value.shape[1:]) for readout, value in found.items()}
