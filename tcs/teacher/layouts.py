"""Layouts of published weight files: which tensors of a file are the teacher's encoder, and what else may lie beside it.

A training script saves more than an encoder: optimisers, a second network, projection heads, decoders, wrappers' prefixes.
The tables below say how each known layout is recognised; `--checkpoint-key` and `--key-map` answer for all others.
"""

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import torch

from tcs.errors import ConfigError, ModelError, did_you_mean, listed

Tensors = Mapping[str, torch.Tensor]

# Where a file holds several dicts of tensors, the first of these names is taken: averaged weights before raw ones, and
# of a pair of networks the one that its authors evaluate (DINO, DINOv2, iBOT: teacher; MSN: target; BYOL: online).
CONTAINERS = (
    "state_dict_ema",
    "model_ema",
    "teacher",
    "target_encoder",
    "state_dict",
    "model",
    "online_network",
    "online_network_state_dict",
    "student",
    "encoder",
    "backbone",
)

CONTAINER_DEPTH = 2
SEPARATOR = "/"  # between the names of nested dicts in --checkpoint-key

# Prefixes that wrap every key of a file: DistributedDataParallel, torch.compile, Lightning modules.
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.")

# Counters and queues, by their whole name: no part of any encoder.
BOOKKEEPING = ("n_averaged", "num_updates", "decay", "queue", "queue_ptr", "masked_embed")
DROP = "-"  # as NEW in --key-map OLD=NEW: leave those keys out


# Projection heads, predictors and classifiers, inside the encoder or beside it, by the beginning of their name.
HEADS = (
    "head.",
    "dino_head.",
    "ibot_head.",
    "projector.",
    "projection_head.",
    "prediction_head.",
    "predictor.",
    "prototypes.",
    "classifier.",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """How one kind of file names its encoder, once WRAPPERS are off.

    It is recognised where some key begins with each of `signs`. Keys that begin with `prefix` are the encoder's; of the
    others only HEADS and those that begin with an entry of `beside` may be there, and are left out.
    """

    name: str
    prefix: str
    signs: tuple[str, ...]
    beside: tuple[str, ...] = ()


# The first layout that is recognised applies, so the particular ones come before the general ones.
LAYOUTS = (
    Layout(
        name="dinov2",
        prefix="teacher.backbone.",
        signs=("teacher.backbone.",),
        beside=("student.", "teacher.dino_head.", "teacher.ibot_head.", "dino_loss.", "ibot_patch_loss."),
    ),
    Layout(
        name="moco-v3",
        prefix="base_encoder.",
        signs=("base_encoder.", "momentum_encoder."),
        beside=("momentum_encoder.",),
    ),
    Layout(name="moco-v2", prefix="encoder_q.", signs=("encoder_q.",), beside=("encoder_k.",)),
    Layout(
        name="byol",
        prefix="online_network.",
        signs=("online_network.",),
        beside=("target_network.", "online_projector.", "target_projector.", "online_predictor."),
    ),
    Layout(
        name="byol-nested",
        prefix="online_encoder.net.",
        signs=("online_encoder.net.",),
        beside=("net.", "online_encoder.projector.", "target_encoder.", "online_predictor."),
    ),
    Layout(name="simmim", prefix="encoder.", signs=("encoder.", "decoder."), beside=("decoder.", "encoder.mask_token")),
    Layout(name="simsiam", prefix="encoder.", signs=("encoder.", "predictor.")),
    Layout(
        name="dino",
        prefix="backbone.",
        signs=("backbone.",),
        beside=("momentum_backbone.", "momentum_projector.", "bn."),
    ),
    Layout(name="mae", prefix="", signs=("decoder_",), beside=("decoder_", "mask_token")),
    Layout(name="msn", prefix="", signs=("fc.fc1.",), beside=("fc.", "pred.")),
)

PLAIN = Layout(name="plain", prefix="", signs=())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoder:
    """The encoder's tensors by the names that timm (or the factory's module) is to know them by, and what was done.

    `left_out` maps the reason to the keys of the file, as they stand there.
    """

    tensors: Tensors
    layout: str
    prefix: str
    left_out: Mapping[str, tuple[str, ...]]


def find_container(content: Any, wanted: str | None, file: str) -> tuple[str, Tensors, tuple[str, ...]]:
    """The dict of tensors inside a file's `content`: its name ("" for the file itself), it, and the ones passed over.

    `wanted` (--checkpoint-key) settles it; else CONTAINERS does, or there being one only. ModelError otherwise.
    """
    found = dict(_containers(content, "", CONTAINER_DEPTH))
    if not found:
        raise ModelError(f"--teacher-checkpoint {file} holds no state dict; give a file of named tensors.")
    name = _chosen(found, file) if wanted is None else wanted
    if name not in found:
        raise ModelError(
            f"--checkpoint-key is '{wanted}', which is no dict of tensors in {file}; it has {_names(found)}."
            f"{did_you_mean(name, found)}"
        )
    return name, found[name], tuple(other for other in found if other != name)


def _containers(content: Any, path: str, depth: int) -> Iterator[tuple[str, Tensors]]:
    """All dicts of nothing but tensors, by path, not looking into one that is found."""
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        return
    if content and all(isinstance(value, torch.Tensor) for value in content.values()):
        yield path, content
    elif depth:
        for key, value in content.items():
            yield from _containers(value, f"{path}{SEPARATOR}{key}" if path else key, depth - 1)


def _chosen(found: Mapping[str, Tensors], file: str) -> str:
    known = [name for name in CONTAINERS if name in found]
    if len(found) > 1 and not known:
        raise ModelError(
            f"--teacher-checkpoint {file} holds several dicts of tensors: {_names(found)};"
            " name the teacher's with --checkpoint-key."
        )
    return known[0] if known else next(iter(found))


def _names(found: Mapping[str, Tensors]) -> str:
    return ", ".join(f"'{name}'" for name in found) if list(found) != [""] else "one, at its top level"


def find_encoder(tensors: Tensors, own: Collection[str], key_map: Mapping[str, str], file: str) -> Encoder:
    """The encoder among `tensors`, by `key_map` where one is given, else by the table.

    `own` are the names of the model's tensors: what the model itself has is never taken for a wrapper or a leftover.
    ConfigError for a key map that does not apply, ModelError for keys that the layout does not know.
    """
    wrapper = _wrapper([key for key in tensors if key not in BOOKKEEPING], own)
    noted = {key for key in tensors if key.removeprefix(wrapper) in BOOKKEEPING and key not in own}
    rest = {key: value for key, value in tensors.items() if key not in noted}
    left_out = {"bookkeeping": tuple(key for key in tensors if key in noted)} if noted else {}
    return _by_map(rest, key_map, left_out) if key_map else _by_table(rest, own, left_out, file)


def _by_table(tensors: Tensors, own: Collection[str], left_out: Mapping[str, tuple[str, ...]], file: str) -> Encoder:
    wrapper = _wrapper(tensors, own)
    names = {key: key.removeprefix(wrapper) for key in tensors}
    layout = next((row for row in LAYOUTS if _applies(row, names.values(), own)), PLAIN)
    beside = {key: None for key, name in names.items() if _is_beside(layout, name, own)}
    kept = {name: tensors[key] for key, name in names.items() if key not in beside}
    strays = [wrapper + name for name in kept if not name.startswith(layout.prefix)]
    if strays:
        raise ModelError(
            f"--teacher-checkpoint {file} looks like {layout.name}, which does not know {len(strays)} of its tensors"
            f" ({', '.join(strays[:3])}); say with --key-map OLD=NEW what is what, OLD={DROP} drops."
        )
    return Encoder(
        tensors={name.removeprefix(layout.prefix): value for name, value in kept.items()},
        layout=layout.name,
        prefix=wrapper + layout.prefix,
        left_out={**left_out, **({"heads and networks beside the encoder": tuple(beside)} if beside else {})},
    )


def _wrapper(keys: Collection[str], own: Collection[str]) -> str:
    """The prefix, of one or more WRAPPERS, that all keys share and the model's own names do not."""
    wrapper = ""
    while True:
        more = [one for one in WRAPPERS if keys and all(key.startswith(wrapper + one) for key in keys)]
        if not more or _any_begins(own, more[0]):
            return wrapper
        wrapper += more[0]


def _applies(layout: Layout, names: Iterable[str], own: Collection[str]) -> bool:
    names = list(names)
    return all(_any_begins(names, sign) and not _any_begins(own, sign) for sign in layout.signs)


def _is_beside(layout: Layout, name: str, own: Collection[str]) -> bool:
    bare = name.removeprefix(layout.prefix)
    return bare not in own and (name.startswith(layout.beside) or bare.startswith(HEADS))


def _any_begins(names: Iterable[str], beginning: str) -> bool:
    return any(name.startswith(beginning) for name in names)


def _by_map(tensors: Tensors, key_map: Mapping[str, str], left_out: Mapping[str, tuple[str, ...]]) -> Encoder:
    """Replace beginnings of keys, or drop what they begin; the first entry that fits a key applies to it."""
    idle = [old for old in key_map if not _any_begins(tensors, old)]
    if idle:
        raise ConfigError(
            f"--key-map {idle[0]}={key_map[idle[0]]} fits no key of the file; its keys begin {_beginnings(tensors)}."
        )
    kept: dict[str, torch.Tensor] = {}
    dropped = []
    for key, value in tensors.items():
        old = next((old for old in key_map if key.startswith(old)), None)
        if old is not None and key_map[old] == DROP:
            dropped.append(key)
            continue
        name = key if old is None else key_map[old] + key.removeprefix(old)
        if name in kept:
            raise ConfigError(
                f"--key-map gives two keys of the file the name {name}; drop one of them with OLD={DROP}."
            )
        kept[name] = value
    reasons = {**left_out, **({"by --key-map": tuple(dropped)} if dropped else {})}
    return Encoder(tensors=kept, layout="key-map", prefix="", left_out=reasons)


def _beginnings(keys: Iterable[str]) -> str:
    return listed(dict.fromkeys(key.partition(".")[0] for key in keys), 6)
