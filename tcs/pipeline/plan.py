"""What a chain will do and cost, told before it begins; and all that can be found wrong before the teacher runs.

Legend: N images of training, n labelled rows of the run.
"""

import dataclasses
import pathlib
from typing import Any

from tcs.artefact import plain_json
from tcs.config.distill import DistillConfig, stage_defaults
from tcs.config.extract import VIEW_OPTIONS, DataConfig, ExtractConfig
from tcs.config.names import finder
from tcs.config.pool import PoolConfig
from tcs.config.train import TrainConfig, may_score_labels
from tcs.errors import ConfigError, DataError, listed, option_name
from tcs.extraction.cost import Cost, readable_bytes, readable_minutes
from tcs.extraction.plan import Extraction, prepare
from tcs.images.sources import find_source, open_images
from tcs.methods.named import Method, name_of, needs_targets, resolve_method, without_pool
from tcs.pipeline.expected_parts import ExpectedParts, expected_parts, require_shots_left
from tcs.pipeline.exports import require_exports
from tcs.pipeline.student_cost import StudentCost, student_cost
from tcs.runtime import say
from tcs.splits.counts import counted, describe_labels, rows_of_classes
from tcs.splits.label_file import read_label_lines
from tcs.students.backbone import parse_student
from tcs.students.start import require_published_weights
from tcs.training.checks import check_names, check_options

METHOD_OPTIONS = ("components", "method", "power", "ceiling_shots")  # of `tcs fit`: asked for, they are followed
SOURCE_OPTIONS = ("data_dir", "input_key", "target_key", "class_map")  # which other kinds of test images may not know


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ChainPlan:
    """A chain before it runs: the prepared extraction of its training images, its method and its costs.

    `method` is the one that the rows of the run will have, `uses_targets` whether a coordinate system and targets are written. `parts`
    are the images that are trained on, and `split_rows` how many labels of these the run reads.
    """

    extraction: Extraction
    method: Method
    uses_targets: bool
    labels: str
    cost: Cost
    test_images: int
    test_labels: str
    students: tuple[StudentCost, ...]
    parts: ExpectedParts
    split_rows: int

    @property
    def method_name(self) -> str:
        """The name of the method, or its loss where it has none."""
        return name_of(plain_json(dataclasses.asdict(self.method)))

    @property
    def minutes(self) -> float:
        """Of extraction and training together."""
        return self.cost.minutes * (1 + self.test_share) + sum(item.minutes for item in self.students)

    @property
    def test_share(self) -> float:
        """Test images per training image."""
        return self.test_images / max(self.cost.images, 1)

    def to_json(self) -> dict[str, Any]:
        """What `--dry-run --json` prints."""
        return {
            "extract": dataclasses.asdict(self.cost) | {"test_images": self.test_images},
            "labels": dict(
                zip(self.extraction.labels[1], rows_of_classes(*self.extraction.labels).values(), strict=True)
            ),
            "method": self.method_name,
            "held_out": self.parts.held,
            "labelled_rows": self.split_rows,
            "targets": self.uses_targets,
            "students": [dataclasses.asdict(item) for item in self.students],
            "minutes": self.minutes,
        }


def make_plan(config: DistillConfig) -> ChainPlan:
    """List the images, load the teacher, build the students; nothing is written.

    Raises TcsError for all that can be told now: unknown students, options that do not go together, a method that reads labels where
    there are none, test images of unknown classes.
    """
    asked = resolve_method(
        config.train.method, config.train.head, config.train.loss, not may_score_labels(config.train)
    )
    specs = [parse_student(model) for model in config.train.models]
    check_names(specs)
    check_options(config.train, asked)
    uses_targets = needs_targets(asked) or _asks_for_axes(config)
    _refuse_idle_targets(config, asked)
    require_exports(config, asked.reads_labels)
    if config.train.pretrained:
        for spec in specs:
            require_published_weights(spec)
    extraction = prepare(extract_config(config))
    labels, classes = extraction.labels
    rows = rows_of_classes(labels, classes)
    _require_labels(config, asked, rows)
    parts = expected_parts(config, extraction.images.keys, labels, classes)
    require_shots_left(config, rows, parts)
    test_images, test_labels = _test_images(config, asked, classes)
    split_rows = _split_rows(config.train, parts.rows)
    has_pool = config.train.asks_for_pool and split_rows < parts.images
    method = asked if has_pool else without_pool(asked)
    return ChainPlan(
        extraction=extraction,
        method=method,
        uses_targets=uses_targets,
        labels=describe_labels(labels, classes),
        cost=extraction.cost(),
        test_images=test_images,
        test_labels=test_labels,
        students=tuple(
            student_cost(config.train, spec, method, split_rows, parts.images, len(classes)) for spec in specs
        ),
        parts=parts,
        split_rows=split_rows,
    )


def extract_config(config: DistillConfig) -> ExtractConfig:
    """The extraction of the training images, or of all images where a part of them is held out for scoring."""
    out = config.places.train_store if config.val_split is None else config.places.whole_store
    return dataclasses.replace(config.extract, out=str(out), dry_run=config.dry_run)


def scoring_config(config: DistillConfig) -> ExtractConfig:
    """The same teacher on the test images: every label of them, one clean view, the projections of the training store."""
    assert config.test is not None
    known = find_source(config.test).options
    defaults = {field.name: field.default for field in dataclasses.fields(ExtractConfig)}
    of_training = ("views", *VIEW_OPTIONS, "label_file", "unlabelled_data", "labels")
    of_projections = ("projection", "projection_images") if config.extract.project else ()
    of_other_sources = [name for name in SOURCE_OPTIONS if name not in known]
    changes: dict[str, Any] = {name: defaults[name] for name in (*of_training, *of_projections, *of_other_sources)}
    if config.extract.project:
        changes |= {"project": {}, "projection_from": str(config.places.train_store)}
    changes |= {"data": config.test, "split": config.test_split, "out": str(config.places.test_store)}
    return dataclasses.replace(config.extract, **changes)


def tell(config: DistillConfig, plan: ChainPlan) -> None:
    """The plan in sentences."""
    say(f"{config.out}: what will be done.")
    say(f"  extract  {config.extract.data}: {plan.cost.describe()}")
    say(f"           {plan.labels}")
    if config.test is not None:
        size, minutes = plan.cost.feature_bytes * plan.test_share, plan.cost.minutes * plan.test_share
        say(
            f"           {config.test}: {plan.test_images:,} images to score on, {readable_bytes(round(size))} of features, about "
            f"{readable_minutes(minutes)}; {plan.test_labels}"
        )
    elif config.val_split is not None:
        say(
            f"           {100 * config.val_split:g} % of the labelled images of each class are held out to score on: "
            f"{plan.parts.about}{plan.parts.held:,}, and {plan.parts.about}{sum(plan.parts.rows.values()):,} are left: "
            f"{counted(plan.parts.rows)}."
        )
    if plan.uses_targets:
        say(f"  fit      {config.fit.method} axes; targets of {config.targets.bits:,} bits.")
    for item in plan.students:
        say(
            f"  train    {item.model} ({item.parameters_m:.2f} M parameters) by {plan.method_name}, "
            f"{_labels_read(config, plan)} labels: {item.steps:,} steps of {item.batch_size} images, about "
            f"{readable_minutes(item.minutes)}."
        )
    if config.compare_labels:
        say("           and each once more from its labels alone.")
    if config.exports:
        eight = "" if config.int8 is None else f"; 8 bits, calibrated with {config.int8}"
        say(f"  export   {', '.join(config.exports)}{eight}.")
    twice = sum(item.minutes for item in plan.students) if config.compare_labels else 0.0
    say(
        f"  about {readable_minutes(plan.minutes + twice)} of extraction and training on this machine, less what is there already."
    )


def _labels_read(config: DistillConfig, plan: ChainPlan) -> str:
    """How many labels the run reads, in words: of every class `--shots`, where more are left; else as many as copies leave."""
    shots, rows = config.train.shots, plan.parts.rows.values()
    is_sure = config.train.split_file is not None or (shots is not None and min(rows, default=0) > shots)
    return f"{'' if is_sure else plan.parts.about}{plan.split_rows:,}"


def _asks_for_axes(config: DistillConfig) -> bool:
    defaults = stage_defaults()["fit"]
    return any(getattr(config.fit, name) != defaults[name] for name in METHOD_OPTIONS)


def _refuse_idle_targets(config: DistillConfig, method: Method) -> None:
    """ConfigError for options of `tcs targets` where no hash bit would be read."""
    if "bits" in method.needs:
        return
    defaults = stage_defaults()["targets"]
    for name in ("bits", "sample_rows"):
        value = getattr(config.targets, name)
        if value != defaults[name]:
            raise ConfigError(
                f"{option_name(name)} is {value}, and loss '{method.loss}' reads no hash bits; leave it out, or use a method that "
                "does, as --method tcs+elsh."
            )


def _require_labels(config: DistillConfig, method: Method, rows: dict[str, int]) -> None:
    filled = [name for name, count in rows.items() if count]
    if config.train.split_file is not None:
        filled = sorted({line.name for line in read_label_lines(config.train.split_file)})
    if method.reads_labels and len(filled) < 2:
        have = f"only of the class '{filled[0]}'" if filled else "not there"
        raise DataError(
            f"labels of {config.extract.data} are {have}, and loss '{method.loss}' reads labels of two classes or more; give class "
            "folders or --label-file (tcs suggest says which images to label), or train without labels: --method tcs-mimic."
        )


def _test_images(config: DistillConfig, method: Method, classes: tuple[str, ...]) -> tuple[int, str]:
    """How many test images there are, and their labels in words. DataError where students could not be scored on them."""
    if config.test is None:
        return 0, ""
    options = scoring_config(config)
    told = {field.name: getattr(options, field.name) for field in dataclasses.fields(DataConfig)}
    images = open_images(DataConfig(**told))
    used = {images.classes[label] for label in images.labels if label >= 0}
    if not used:
        raise DataError(
            f"--test {config.test} has no labels, so nothing can be scored; give class folders, or leave it out."
        )
    find = finder(classes)
    strangers = sorted(name for name in used if find(name) is None)
    if strangers and method.reads_labels and config.train.split_file is None:
        raise DataError(
            f"--test {config.test} has classes that no training image is of: {listed(strangers, 5)}; label images of them, or "
            "leave them out of the test images."
        )
    return len(images.keys), describe_labels(images.labels, images.classes)


def _split_rows(train: TrainConfig, rows: dict[str, int]) -> int:
    """How many labels the run will read, of classes with `rows` labelled images to train on."""
    if train.split_file is not None:
        return len(read_label_lines(train.split_file))
    return sum(min(count, train.shots or count) for count in rows.values())


def labels_config(config: DistillConfig) -> TrainConfig:
    """The same students from the labels alone: what a table is compared with."""
    return dataclasses.replace(
        config.train,
        method="labels",
        head=None,
        loss=None,
        targets=None,
        selection=None,
        keep=None,
        mimic_view="same",
        labelled_share=None,
        pool=PoolConfig(),
        out=str(pathlib.Path(config.places.labels_run)),
    )
