"""What an extraction consists of, before anything is written: images, teacher, and the plan of the store that follows."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import cache
from tcs.augmentation.views import PARAMETERS, ViewPolicy
from tcs.config.extract import ExtractConfig
from tcs.config.pixels import FIRST, PixelRules, rules_in
from tcs.errors import ConfigError
from tcs.extraction.cost import Cost, estimate_cost, readable_bytes
from tcs.extraction.decoding import ImagePositions, inputs_maker, view_policy
from tcs.extraction.projections import (
    Facts,
    constants_of,
    find_projections,
    projected,
    projection_facts,
    projections_of,
    widths_of,
)
from tcs.images.listing import ImageList
from tcs.images.sources import choose_source, open_images
from tcs.runtime import Stopwatch, say
from tcs.splits.given_labels import as_spelled, read_given_labels
from tcs.teacher.card import with_card
from tcs.teacher.model import Teacher, load_teacher, require_obtainable

MAX_ORIGINAL_BYTES = 10_000_000_000
RESIZED_NOTE = "shorter side resized (bicubic) where larger; JPEG stays JPEG, quality 95; all else becomes PNG"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Extraction:
    """What a pass needs: the images, the teacher, and the plan that follows from both."""

    config: ExtractConfig
    images: ImageList
    teacher: Teacher
    plan: cache.Plan
    positions: ImagePositions
    given: Mapping[str, str] = dataclasses.field(default_factory=dict)  # key -> class name, of the label file
    forward: Stopwatch = dataclasses.field(default_factory=Stopwatch)

    @functools.cached_property
    def labels(self) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Labels of the images and classes, as the store will have them: of the source, given later, and of the label file."""
        stored = cache.stored_labels(self.config.out)
        if self.config.overwrite or stored is None or len(stored[0]) != len(self.images.keys):
            stored = self.images.labels, self.images.classes
        names = [stored[1][label] if label >= 0 else None for label in stored[0]]
        given = as_spelled(self.given, stored[1])
        names = [given.get(key, name) for key, name in zip(self.images.keys, names, strict=True)]
        used = set(names) - {None}
        known = [name for name in stored[1] if name in used or name in self.images.classes]
        classes = (*known, *sorted(name for name in used if name is not None and name not in known))
        number = {name: label for label, name in enumerate(classes)}
        return tuple(-1 if name is None else number[name] for name in names), classes

    def cost(self) -> Cost:
        """What the whole pass takes, estimated from a short sample, once."""
        return self._cost

    @functools.cached_property
    def _cost(self) -> Cost:
        return estimate_cost(self.images, self.positions, self.teacher, self.plan, self.config.workers)


def prepare(config: ExtractConfig, images: ImageList | None = None, like: cache.Plan | None = None) -> Extraction:
    """List the images (unless they are given), load the teacher, make the plan; nothing is written. Raises TcsError.

    `like` is the plan of a store whose projections are taken over, as they stand there: those fitted to other images would be others.
    """
    config = _as_begun(with_card(config))
    rules = config.rules
    choose_source(config)
    require_obtainable(config)
    images = open_images(config) if images is None else images
    given = _given_labels(config, images)
    policy = _image_policy(config, images)
    teacher = load_teacher(config)
    config = dataclasses.replace(config, teacher_channels_last=teacher.channels_last)  # recorded before the first shard
    views = view_policy(config)
    positions = ImagePositions(images, inputs_maker(config, teacher.transform, teacher.preprocessing), policy, rules)
    facts = (
        projection_facts(config, teacher, len(images.keys)) if like is None else like.identity.get("projections", {})
    )
    if like is not None:
        teacher = projected(teacher, projections_of(like))
    elif not config.dry_run:  # which asks for sizes only
        teacher = projected(teacher, find_projections(config, teacher, positions, facts))
    plan = cache.Plan(
        identity=_identity(config, teacher, policy, views, facts) | rules.entry,
        readouts=tuple(
            cache.Readout(name=name, dims=dims, dtype=config.dtype, grid=teacher.grids.get(name))
            for name, dims in widths_of(teacher.readouts, facts).items()
        ),
        keys=images.keys,
        labels=images.labels,
        classes=images.classes,
        images=policy,
        rows_per_shard=config.rows_per_shard,
        batch_size=config.batch_size,
        views=None if views is None else cache.Views(count=views.count, parameters=PARAMETERS),
        constants=constants_of(teacher.projections),
    )
    return Extraction(config=config, images=images, teacher=teacher, plan=plan, positions=positions, given=given)


def _as_begun(config: ExtractConfig) -> ExtractConfig:
    """The configuration with its pixel rules named, and of a store that it goes on with the rules and the memory layout: all its shards
    are of one."""
    stored = None if config.overwrite else cache.stored_manifest(config.out)
    if stored is not None:
        config = _in_its_layout(_by_its_rules(config, stored.plan), stored.provenance)
    return dataclasses.replace(config, pixel_rules=config.rules.version)


def _by_its_rules(config: ExtractConfig, plan: cache.Plan) -> ExtractConfig:
    """What was begun by rules 1 goes on by them, unless others are asked for."""
    is_asked = config.pixel_rules is not None or config.rules != PixelRules()
    if is_asked or rules_in(plan.identity, config.out).version != FIRST:
        return config
    say(
        f"{config.out} was begun by pixel rules 1 of an earlier release, and goes on by them: EXIF orientation is not applied, "
        "transparency dropped (--overwrite extracts it anew by the present rules)."
    )
    return dataclasses.replace(config, pixel_rules=FIRST)


def _in_its_layout(config: ExtractConfig, provenance: Mapping[str, Any]) -> ExtractConfig:
    """What was begun in a memory layout goes on in it, whatever is asked for."""
    recorded = provenance.get("config")
    begun = isinstance(recorded, Mapping) and recorded.get("teacher_channels_last") is True
    if config.teacher_channels_last not in (None, begun):
        layout = "channels_last" if begun else "the default memory layout"
        say(f"{config.out} was begun in {layout}, and goes on in it; --overwrite extracts it anew in the other.")
    return dataclasses.replace(config, teacher_channels_last=begun)


def _given_labels(config: ExtractConfig, images: ImageList) -> dict[str, str]:
    """Classes by key that the label file gives to images; found wrong before the pass, not after it."""
    if config.label_file is None:
        return {}
    return read_given_labels(config.label_file, images.keys, images.origin, config.data)


def _identity(
    config: ExtractConfig, teacher: Teacher, policy: str, views: ViewPolicy | None, facts: Facts
) -> dict[str, Any]:
    """The teacher's identity, and what else decides the values; a field that is not used does not stand there."""
    return {
        **teacher.identity,
        **({"resized": RESIZED_NOTE} if policy.startswith("resized") else {}),
        **({} if config.map_size is None else {"map_size": list(config.map_size)}),
        "views": 1 if views is None else views.identity(),
        **({"projections": dict(facts)} if facts else {}),
    }


def _image_policy(config: ExtractConfig, images: ImageList) -> str:
    if config.images is not None:
        return config.images
    total = images.size_bytes()
    if total > MAX_ORIGINAL_BYTES:
        raise ConfigError(
            f"the images take {readable_bytes(total)}, above the {readable_bytes(MAX_ORIGINAL_BYTES)} that are copied"
            " into a store unasked; choose --images original, --images resized:256 or --images none."
        )
    return "original"
