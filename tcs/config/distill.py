"""Options of `tcs distill`: those of the stages that it runs, under one name each, and a few of its own. Pure standard library.

No option of a stage is listed here a second time: names are derived from the stages' own configurations. An option keeps its name
(`img_size`, `steps`, `bits`); where two stages have one of that name, it is the extraction's, and that of `tcs train` is `student_...`,
of `tcs fit` `fit_...`, of `tcs targets` `targets_...`. Seed and device are those of all stages.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, Self

from tcs.config.coordinates import FitConfig, TargetsConfig
from tcs.config.export import ENDINGS, FORMATS, MAX_DROP_POINTS
from tcs.config.extract import ExtractConfig
from tcs.config.plain import PathText, plain_value, take_plain
from tcs.config.train import TrainConfig, option_defaults
from tcs.errors import did_you_mean, refuse_idle, require, require_choice

# The stages in the order in which a name goes to the first that has it, and what stands before it in the others
PREFIXES: Mapping[str, str] = {"extract": "", "train": "student_", "fit": "fit_", "targets": "targets_"}
SHARED = ("seed", "device")

# What the chain itself puts into a stage: places of its artefacts, and options that it has too
PLACED: Mapping[str, frozenset[str]] = {
    "extract": frozenset({"data", "out", "overwrite", "dry_run"}),
    "train": frozenset({"store", "out", "targets", "data", "overwrite", "dry_run"}),
    "fit": frozenset({"store", "out", "readout", "shots", "split_seed", "split_file", "ceiling_test", "overwrite"}),
    "targets": frozenset({"store", "coordinates", "from_targets", "out", "overwrite"}),
}
FLAGS: Mapping[str, str] = {"readouts": "readout"}  # fields whose options are called otherwise, and would share a name


def stage_defaults() -> dict[str, dict[str, Any]]:
    """Every option of each stage with its default (dataclasses.MISSING where there is none), but for those that are placed."""
    kinds = {"extract": ExtractConfig, "fit": FitConfig, "targets": TargetsConfig}
    plain = {
        name: {field.name: _default_of(field) for field in dataclasses.fields(kind)} for name, kind in kinds.items()
    }
    found = {name: plain.get(name) or option_defaults() for name in PREFIXES}
    return {
        stage: {name: value for name, value in options.items() if name not in PLACED[stage]}
        for stage, options in found.items()
    }


def _default_of(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def option_names() -> dict[str, dict[str, str]]:
    """stage -> its option -> the name of that in `tcs distill`."""
    taken: set[str] = set()
    names: dict[str, dict[str, str]] = {}
    for stage, options in stage_defaults().items():
        flags = {name: FLAGS.get(name, name) for name in options}
        names[stage] = {
            name: name if name in SHARED or flag not in taken else PREFIXES[stage] + name
            for name, flag in flags.items()
        }
        taken |= set(flags.values())
    return names


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """`tcs distill`: the whole chain into the folder `out`. Make one with `from_options`.

    Each stage has the configuration that its own command would have, with `out/train.store`, `out/coordinates.safetensors`,
    `out/targets.h5` and `out/run` as places; `train.targets` is None, and set once it is known whether the method reads targets.
    `test` are images to score on, `val_split` a share of the training images instead. `with_preprocess`, `int8` and `max_drop` are
    of `tcs export`, for the `exports` that have them.
    """

    out: PathText
    extract: ExtractConfig
    train: TrainConfig
    fit: FitConfig
    targets: TargetsConfig
    test: PathText | None = None
    test_split: str | None = None
    val_split: float | None = None
    exports: tuple[str, ...] = ()
    with_preprocess: bool = False
    int8: PathText | None = None
    max_drop: float = MAX_DROP_POINTS
    compare_labels: bool = False
    overwrite: bool = False
    dry_run: bool = False

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """The configuration of flat `options`: `data`, `out`, `teacher` (or `teacher_card`), `models`, all others by `option_names`.

        ConfigError for values that make no sense and for names that are no option.
        """
        names = option_names()
        own = {field.name for field in dataclasses.fields(cls)} - set(PREFIXES)
        known = own | {"data"} | {name for stage in names.values() for name in stage.values()}
        unknown = next((name for name in options if name not in known), None)
        require(unknown is None, f"'{unknown}' is no option of tcs distill.{did_you_mean(str(unknown), known)}")
        for name in ("data", "out", "models"):
            require(options.get(name) not in (None, ()), f"{name} is missing; tcs distill needs it.")
        given = {
            stage: {field: options[name] for field, name in fields.items() if name in options}
            for stage, fields in names.items()
        }
        out = pathlib.Path(plain_value("out", options["out"], PathText))
        overwrite = bool(options.get("overwrite", False))
        images = given["extract"].get("images")
        places = Places(out)
        store, coordinates = str(places.train_store), str(places.coordinates)
        return cls(
            **{name: options[name] for name in own if name in options},
            extract=ExtractConfig(data=options["data"], out=store, **given["extract"]),
            train=TrainConfig.from_options(
                {
                    **given["train"],
                    "store": store,
                    "out": str(places.run),
                    "overwrite": overwrite,
                    "data": options["data"] if images == "none" else None,
                }
            ),
            fit=FitConfig(
                store=store, out=coordinates, readout=given["train"].get("readout"), overwrite=overwrite, **given["fit"]
            ),
            targets=TargetsConfig(
                store=store, coordinates=coordinates, out=str(places.targets), overwrite=overwrite, **given["targets"]
            ),
        )

    def __post_init__(self) -> None:
        take_plain(self)
        require(
            self.test is None or self.val_split is None,
            "--test and --val-split exclude each other; give one of them.",
        )
        require(
            self.test is not None or self.test_split is None,
            f"--test-split is {self.test_split}, a part of --test; give --test with it.",
        )
        require(
            self.val_split is None or 0 < self.val_split < 1,
            f"--val-split is {self.val_split}; it must lie above 0 and below 1.",
        )
        for kind in self.exports:
            require_choice(kind, FORMATS, "--export")
        require(
            len(set(self.exports)) == len(self.exports),
            f"--export names {', '.join(self.exports)}; each may stand there once.",
        )
        refuse_idle(
            self,
            (
                (
                    ("with_preprocess",),
                    bool(set(self.exports) & set(ENDINGS)),
                    "--export onnx or --export torch-export",
                ),
                (("int8",), "onnx" in self.exports, "--export onnx"),
                (("max_drop",), self.int8 is not None, "--int8"),
            ),
        )

    @property
    def places(self) -> "Places":
        """Where everything goes."""
        return Places(pathlib.Path(self.out))


@dataclasses.dataclass(frozen=True)
class Places:
    """What stands where in the folder of a chain: the single commands find it there."""

    out: pathlib.Path

    @property
    def whole_store(self) -> pathlib.Path:
        """All images, where a part of them is held out for scoring."""
        return self.out / "all.store"

    @property
    def train_store(self) -> pathlib.Path:
        """What students are trained from."""
        return self.out / "train.store"

    @property
    def test_store(self) -> pathlib.Path:
        """What they are scored on."""
        return self.out / "test.store"

    @property
    def split_file(self) -> pathlib.Path:
        """Which images of the whole store are in which part."""
        return self.out / "split.csv"

    @property
    def coordinates(self) -> pathlib.Path:
        """The coordinate system, where the method reads targets."""
        return self.out / "coordinates.safetensors"

    @property
    def targets(self) -> pathlib.Path:
        """The targets file, where the method reads it."""
        return self.out / "targets.h5"

    @property
    def run(self) -> pathlib.Path:
        """The students."""
        return self.out / "run"

    @property
    def labels_run(self) -> pathlib.Path:
        """The same students from the labels alone."""
        return self.out / "run-labels"

    @property
    def results(self) -> pathlib.Path:
        """The table at the end, as JSON."""
        return self.out / "results.json"

    @property
    def record(self) -> pathlib.Path:
        """The options of the command."""
        return self.out / "distill.json"

    def exported(self, kind: str) -> pathlib.Path:
        """The students in one format."""
        return self.out / "export" / kind
