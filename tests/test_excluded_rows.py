"""`tcs train --exclude`: the run of a store without those images, in all that it draws, fits and learns."""

import json
import pathlib
from typing import Any

import numpy as np
import pytest
from artefacts import make_store, make_targets
from safetensors.numpy import load_file

import cache
from tcs.auditing.findings import AuditFinding, table_bytes
from tcs.cli import main
from tcs.config.audit import ExclusionConfig
from tcs.config.coordinates import TargetsConfig
from tcs.config.distill import DistillConfig
from tcs.config.train import TrainConfig
from tcs.coordinates.targets import fit_targets
from tcs.errors import ArtefactError, ConfigError, DataError
from tcs.training.data import open_data
from tcs.training.exclusion import without_excluded
from tcs.training.train import train

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"
DROPPED = (2, 3, 17, 30, 31, 59)


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """train.store, the table of an audit that names six of its images as copies, and part.store without them."""
    store = make_store(tmp_path / "train.store", rows=60)
    keys = [store.keys[row] for row in DROPPED]
    write_table(tmp_path / "audit.csv", [("duplicate", key) for key in keys])
    cache.subset(store.path, tmp_path / "part.store", keys=[key for key in store.keys if key not in keys])
    return tmp_path


def write_table(path: pathlib.Path, lines: list[tuple[str, str]]) -> None:
    path.write_bytes(table_bytes([AuditFinding(kind=kind, key=key, score=1.0) for kind, key in lines]))


def run(folder: pathlib.Path, out: str, **options: Any) -> TrainConfig:
    given = {
        "store": str(folder / "train.store"),
        "out": str(folder / out),
        "models": (STUDENT,),
        "steps": 3,
        "seed": 3,
    }
    return TrainConfig.from_options(given | {"batch_size": 8, "img_size": 16} | options)


def weights(config: TrainConfig) -> dict[str, np.ndarray]:
    (student,) = train(config)
    return load_file(student / "last.safetensors")


@pytest.mark.parametrize(
    "options",
    [
        {"method": "tcs-pool", "shots": 2, "held_out": 20},
        {"method": "labels", "shots": 3},
        {"loss": "ce + kd", "head": "linear", "unlabelled": "20", "shots": 2},
        {"method": "labels"},
        {"method": "tcs-mimic"},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_it_is_the_run_on_a_store_without_those_images(folder: pathlib.Path, options: dict[str, Any]) -> None:
    part = weights(run(folder, "part", **options, store=str(folder / "part.store")))
    mine = weights(run(folder, "mine", **options, exclude=str(folder / "audit.csv")))
    whole = weights(run(folder, "whole", **options))
    assert part.keys() == mine.keys() == whole.keys()
    assert all(np.array_equal(part[name], mine[name]) for name in part)
    assert not all(np.array_equal(whole[name], mine[name]) for name in part)
    seen = [np.load(next((folder / name).glob("*/seen.npy"))).tolist() for name in ("part", "mine")]
    assert seen[0] == seen[1]


def test_targets_of_the_whole_store_are_read_at_the_rows_that_stay(folder: pathlib.Path) -> None:
    axes = make_targets(folder).with_suffix(".safetensors")
    given = TargetsConfig(store=str(folder / "part.store"), coordinates=str(axes), out=str(folder / "part.h5"), bits=32)
    fit_targets(given)
    whole = open_data(str(folder / "train.store"), str(folder / "pca.h5"))
    data = without_excluded(whole, run(folder, "run", exclude=str(folder / "audit.csv")))
    part = open_data(str(folder / "part.store"), str(folder / "part.h5"))
    assert data.targets is not None
    assert part.targets is not None
    assert whole.targets is not None
    rows_n = np.array([0, 2, 20, 53])
    assert np.allclose(data.targets.coordinates_rows(rows_n), part.targets.coordinates_rows(rows_n), atol=1e-5)
    kept = np.setdiff1d(np.arange(60), DROPPED)
    assert np.array_equal(data.targets.bits_rows(rows_n), whole.targets.bits_NP[kept[rows_n]])
    assert data.targets.identity == whole.targets.identity
    train(
        run(
            folder,
            "hashed",
            loss="ce + elsh",
            targets=str(folder / "pca.h5"),
            exclude=str(folder / "audit.csv"),
            shots=2,
        )
    )


def test_stores_side_by_side_lose_the_same_images(folder: pathlib.Path) -> None:
    make_store(folder / "b.store", rows=60, teacher="b")
    keys = cache.open(folder / "part.store").keys
    cache.subset(folder / "b.store", folder / "part-b.store", keys=keys)
    options = {"method": "tcs-pool", "shots": 2, "pool_teachers": "each"}
    part = weights(run(folder, "p", **options, store=str(folder / "part.store"), also=[str(folder / "part-b.store")]))
    mine = weights(run(folder, "m", **options, also=[str(folder / "b.store")], exclude=str(folder / "audit.csv")))
    assert all(np.array_equal(part[name], mine[name]) for name in part)


def test_what_is_left_out_is_part_of_what_a_run_is(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"method": "labels", "shots": 2, "exclude": str(folder / "audit.csv")}
    (student,) = train(run(folder, "run", **options))
    store = cache.open(folder / "train.store")
    told = f"6 images are left out by {folder / 'audit.csv'} (duplicate, leak, conflict): "
    assert told in capsys.readouterr().err
    record = json.loads((student / "config.json").read_text())
    keys = sorted(store.keys[row] for row in DROPPED)
    assert record["identity"]["excluded"] == cache.digest_of_json(keys)
    assert record["identity"]["store_identity"] == store.identity
    assert record["config"]["exclude"] == str(folder / "audit.csv")
    (folder / "audit.csv").rename(folder / "moved.csv")  # a table of the same images elsewhere is the same run
    train(run(folder, "run", **options | {"exclude": str(folder / "moved.csv")}))
    write_table(folder / "other.csv", [("duplicate", key) for key in keys[:5]])
    for changes in ({"exclude": str(folder / "other.csv")}, {"exclude": None}):
        with pytest.raises(ArtefactError, match=r"was made with excluded .*, this command has"):
            train(run(folder, "run", **options | changes))


def test_kinds_and_numbers_mean_what_they_mean_for_subset(folder: pathlib.Path) -> None:
    keys = cache.open(folder / "train.store").keys
    write_table(
        folder / "kinds.csv",
        [("label-error", key) for key in keys] + [("leak", keys[5]), ("near-duplicate", keys[6]), ("outlier", keys[7])],
    )
    for kinds, top, left in (
        ((), None, {5}),
        (("label-error", "outlier"), 2, {0, 1, 7}),
        (("near-duplicate",), None, {6}),
    ):
        config = run(folder, "x", exclude=str(folder / "kinds.csv"), exclude_kind=kinds, exclude_top=top)
        data = without_excluded(open_data(config.store, None), config)
        assert set(keys) - set(data.store.keys) == {keys[row] for row in left}


def test_exclusions_that_make_no_sense_are_refused_in_one_line(folder: pathlib.Path) -> None:
    keys = cache.open(folder / "train.store").keys
    for name, lines, message in (
        (
            "strange",
            [("leak", "nowhere.png")],
            r"names 'nowhere\.png', which is no image of this store; name the table",
        ),
        (
            "nothing",
            [("outlier", keys[0])],
            r"names no image of kind duplicate, leak, conflict; leave it out, or name other",
        ),
        ("all", [("leak", key) for key in keys], r"names every image; nothing would be left\. Exclude fewer\."),
    ):
        write_table(folder / f"{name}.csv", lines)
        with pytest.raises(DataError, match=rf"--exclude .*{name}\.csv {message}"):
            train(run(folder, "run", exclude=str(folder / f"{name}.csv")))
    with pytest.raises(ConfigError, match=r"--exclude-kind and --exclude-top have no effect without --exclude\."):
        run(folder, "run", exclude_top=3)
    with pytest.raises(ConfigError, match=r"--exclude-kind label-error needs --exclude-top N"):
        run(folder, "run", exclude="x.csv", exclude_kind=("label-error",))
    with pytest.raises(ConfigError, match=r"--exclude-kind is 'leek'; it must be one of"):
        run(folder, "run", exclude="x.csv", exclude_kind=("leek",))


def test_a_grid_says_how_its_images_are_left_out(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_store(folder / "test.store", seed=1)
    (folder / "grid.yaml").write_text(
        f"train: {folder / 'train.store'}\ntest: {folder / 'test.store'}\nstudents: ['{STUDENT}']\nmethods: [labels]\nshots: [2]\n"
        f"seeds: [0]\nunlabelled: [none]\noptions: {{steps: 2, exclude: {folder / 'audit.csv'}}}\n"
    )
    with pytest.raises(SystemExit):
        main(["fewshot", str(folder / "grid.yaml"), "--out", str(folder / "grid")])
    assert "make a store without those images: tcs cache subset --exclude." in capsys.readouterr().err


def test_the_command_takes_the_options_of_subset(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", str(folder / "train.store"), "--out", str(folder / "run"), "--model", STUDENT, "--steps", "1"]
    arguments += ["--img-size", "16", "--method", "labels", "--exclude", str(folder / "audit.csv")]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--exclude-kind", "duplicate", "--exclude-kind", "leak"])
    assert ended.value.code == 0
    assert "6 images are left out by" in capsys.readouterr().err


def test_a_chain_hands_the_options_to_its_students() -> None:
    options = {
        "data": "d",
        "out": "o",
        "teacher": "t",
        "models": (STUDENT,),
        "exclude": "a.csv",
        "exclude_kind": ("outlier",),
    }
    config = DistillConfig.from_options(options)
    assert config.train.exclusion == ExclusionConfig(exclude="a.csv", kinds=("outlier",))
