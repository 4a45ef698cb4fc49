"""`tcs distill`: the single commands in one, resumable, with the same artefacts in the same places."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from distilled import STUDENT, chain_options, distilled, write_data
from extraction import SIDE

import cache
import tcs
from tcs.cli.distill import command, derived_options
from tcs.config.distill import DistillConfig, option_names, stage_defaults
from tcs.errors import ConfigError, DataError, ModelError
from tcs.pipeline.outcome import table
from tcs.pipeline.plan import make_plan, scoring_config


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("images"))


@pytest.fixture
def options(data, teacher, tmp_path):
    return chain_options(data, teacher, tmp_path / "work")


def test_artefacts_are_those_of_the_single_commands(options, data, teacher, tmp_path, capsys):
    outcome = distilled(options, method="tcs+elsh", components=4, bits=16, shots=2, compare_labels=True)
    work, single = tmp_path / "work", tmp_path / "single"
    extract = tcs.ExtractConfig(
        data=data / "few",
        unlabelled_data=(str(data / "pool"),),
        out=single / "train.store",
        teacher="test_vit",
        teacher_checkpoint=teacher,
        img_size=SIDE,
        rows_per_shard=7,
        workers=0,
    )
    single.mkdir()
    tcs.extract(extract)
    tcs.extract(
        dataclasses.replace(extract, data=str(data / "test"), unlabelled_data=(), out=str(single / "test.store"))
    )
    store, coordinates = single / "train.store", single / "coordinates.safetensors"
    tcs.fit(tcs.FitConfig(store=store, out=coordinates, components=4))
    targets = tcs.fit_targets(
        tcs.TargetsConfig(store=store, coordinates=coordinates, out=single / "targets.h5", bits=16)
    )
    given = {
        "store": store,
        "models": (STUDENT,),
        "img_size": 16,
        "batch_size": 8,
        "steps": 3,
        "held_out": 0,
        "shots": 2,
    }
    tcs.train(tcs.TrainConfig(**given, out=single / "run", targets=targets, method="tcs+elsh"))
    tcs.train(tcs.TrainConfig(**given, out=single / "run-labels", method="labels"))
    rows = tcs.evaluate(tcs.EvalConfig(run=single / "run", store=single / "test.store"))
    for name in ("train.store", "test.store"):
        assert cache.open(work / name).identity == cache.open(single / name).identity
        assert cache.open(work / name).content_digests == cache.open(single / name).content_digests
    assert (work / "coordinates.safetensors").read_bytes()[-64:] == coordinates.read_bytes()[-64:]
    found = [tcs.open_targets(folder / "targets.h5").identity for folder in (work, single)]
    assert found[0] == found[1]
    for run in ("run", "run-labels"):
        (ours,), (theirs,) = ([path for path in (folder / run).iterdir() if path.is_dir()] for folder in (work, single))
        assert (ours / "folded.safetensors").read_bytes() == (theirs / "folded.safetensors").read_bytes()
        records = [json.loads((path / "config.json").read_text())["identity"] for path in (ours, theirs)]
        assert records[0] == records[1]
    assert [row["method"] for row in outcome.rows] == ["tcs+elsh", "labels", "teacher-probe"]
    assert [row["labels"] for row in outcome.rows] == [6, 6, 6]
    assert outcome.rows[0]["top1"] == rows[0]["top1"]
    told = capsys.readouterr().err
    assert "[1/7] extract: the teacher runs once over" in told
    assert "[7/7] eval: done, " in told
    assert list(outcome.seconds) == ["extract", "extract test", "fit", "targets", "train", "train labels", "eval"]


def test_a_rerun_does_nothing_and_a_killed_stage_is_taken_up(options, tmp_path, capsys, monkeypatch):
    first = distilled(options)
    work = tmp_path / "work"
    assert not (work / "targets.h5").exists()  # tcs-pool reads none
    before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file() and path.name != "distill.json"}
    capsys.readouterr()
    again = distilled(options)
    assert "has the scores of these students already" in capsys.readouterr().err
    assert again.rows == first.rows
    changed = [
        path.name for path, content in before.items() if path.read_bytes() != content and path.name != "args.yaml"
    ]
    assert changed == []
    shutil.rmtree(work / "run")
    (work / "test.store" / "shard-00001.h5").unlink()
    assert distilled(options).rows[0]["top1"] == first.rows[0]["top1"]
    assert cache.verify(work / "test.store").is_sound


def test_labels_that_were_added_since_need_no_new_pass(options, data, tmp_path, monkeypatch):
    file = tmp_path / "l.csv"
    shutil.copytree(data / "few", tmp_path / "all" / "few")
    keys = [f"few/{path.parent.name}/{path.name},{path.parent.name}" for path in sorted((data / "few").rglob("*.png"))]
    file.write_text("\n".join(["path,class", *keys[:2], *keys[3:5], *keys[6:8]]))
    options = options | {"data": str(tmp_path / "all"), "label_file": str(file)}
    first = distilled(options)
    assert [row["labels"] for row in first.rows] == [6, 6]
    assert f"tcs suggest {tmp_path}/work/train.store --n 15 --labelled {file} --out" in first.closing
    file.write_text("\n".join(["path,class", *keys]))
    monkeypatch.setattr("tcs.extraction.extract.write_pending", None)
    with pytest.raises(tcs.ArtefactError, match=r"split_digest .* overwrite\b"):
        distilled(options)
    again = distilled(options, overwrite=True)
    assert [row["labels"] for row in again.rows] == [9, 9]


def test_a_dry_run_tells_the_plan_and_writes_nothing(options, tmp_path, capsys):
    outcome = distilled(options, shots=2, dry_run=True)
    assert not (tmp_path / "work").exists()
    told = capsys.readouterr().err
    for line in (
        "9 of 21 images are labelled, 3 classes: ant 3, bee 3, cow 3.",
        "12 images to score on",
        "by tcs-pool, 6 labels: 3 steps of 8 images, about",
        "Nothing was written.",
    ):
        assert line in told
    plan = outcome.plan
    assert plan["labels"] == {"ant": 3, "bee": 3, "cow": 3}
    assert (plan["method"], plan["labelled_rows"], plan["targets"], plan["extract"]["images"]) == (
        "tcs-pool",
        6,
        False,
        21,
    )
    assert plan["students"][0]["steps"] == 3
    assert plan["minutes"] > 0


def test_the_command_takes_flags_and_files_and_prints_the_table(options, tmp_path):
    arguments = [options["data"], "--out", options["out"], "--test", options["test"], "--unlabelled-data"]
    arguments += [options["unlabelled_data"][0], "--teacher", "test_vit", "--img-size", str(SIDE), "-j", "0"]
    arguments += ["--teacher-checkpoint", options["teacher_checkpoint"], "--model", STUDENT]
    (tmp_path / "c.yaml").write_text("student-img-size: 16\nstudent-batch-size: 8\nsteps: 2\nheld-out: 0\n")
    done = CliRunner().invoke(command, ["-c", str(tmp_path / "c.yaml"), *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].startswith("| student | method | labels | top-1 |")
    assert [line.split(" | ")[1:3] for line in lines[2:4]] == [["tcs-pool", "9"], ["teacher-probe", "9"]]
    assert "Next, label what helps most of the 12 images without a label, and run this again with them:" in lines
    dry = CliRunner().invoke(command, [*arguments, "--dry-run", "--json"], catch_exceptions=False)
    assert json.loads(dry.stdout)["plan"]["students"][0]["steps"] == 2000
    wrong = CliRunner().invoke(command, [*arguments, "--student-steps", "3"])
    assert (wrong.exit_code, "--student-batch-size" in wrong.output or "No such option" in wrong.output) == (2, True)


def test_every_option_of_a_stage_is_an_option_here_under_a_name_of_its_own():
    names = [name for stage in option_names().values() for name in stage.values()]
    flags = [flag for option in derived_options() for flag in (*option.opts, *option.secondary_opts)]
    assert len(flags) == len(set(flags))
    assert {str(option.name) for option in derived_options()} == set(names)
    assert len(set(names)) == len(names) - 4  # the seed is of three more stages, the device of one
    wanted = {
        "mean", "readouts", "steps", "shots", "bits", "components", "img_size", "student_img_size", "hflip", "student_hflip",
        "batch_size", "student_batch_size", "student_readout", "fit_method", "method", "label_file", "student_checkpoint",
    }  # fmt: skip
    assert wanted <= set(names)
    assert {"--student-img-size", "--student-batch-size", "--fit-method", "--no-channels-last"} <= set(flags)


def test_options_reach_their_stages():
    names, defaults = option_names(), stage_defaults()
    given = {"data": "my", "out": "w", "teacher": "t", "models": ("a", "b"), "seed": 7, "device": "cpu", "steps": 9}
    given |= {
        "img_size": 64,
        "student_img_size": 32,
        "batch_size": 5,
        "student_batch_size": 6,
        "images": "none",
        "bits": 8,
    }
    config = DistillConfig.from_options(
        given | {"fit_method": "random", "sample_rows": 3, "hflip": 0.5, "student_hflip": 0.1}
    )
    assert (config.extract.img_size, config.train.img_size, config.extract.batch_size, config.train.batch_size) == (
        64,
        32,
        5,
        6,
    )
    assert {stage.seed for stage in (config.extract, config.train, config.fit, config.targets)} == {7}
    assert (config.fit.method, config.train.method, config.targets.sample_rows, config.train.augment.hflip) == (
        "random",
        None,
        3,
        0.1,
    )
    assert (config.train.data, config.train.store, config.train.out) == ("my", "w/train.store", "w/run")
    assert (config.targets.coordinates, config.targets.out) == ("w/coordinates.safetensors", "w/targets.h5")
    assert all(set(names[stage]) == set(defaults[stage]) for stage in names)


def test_the_test_images_have_one_clean_view_and_all_their_labels(options):
    config = DistillConfig.from_options(
        options
        | {
            "views": 2,
            "hflip": 0.0,
            "label_file": "l.csv",
            "project": {"map": 4},
            "readouts": ("avg", "map"),
            "test_split": "val",
        }
    )
    test = scoring_config(config)
    assert (test.views, test.label_file, test.labels, test.unlabelled_data, test.split) == (
        None,
        None,
        "auto",
        (),
        "val",
    )
    assert (test.project, test.projection_from) == ({}, config.extract.out)


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"steps_": 3}, ConfigError, "'steps_' is no option of tcs distill. Did you mean steps"),
        ({"models": ()}, ConfigError, "models is missing; tcs distill needs it"),
        ({"val_split": 0.2}, ConfigError, "--test and --val-split exclude each other; give one of them"),
        (
            {"test": None, "test_split": "val"},
            ConfigError,
            "--test-split is val, a part of --test; give --test with it",
        ),
        ({"test": None, "val_split": 1.0}, ConfigError, "--val-split is 1.0; it must lie above 0 and below 1"),
        ({"exports": ("onnx", "onnx")}, ConfigError, "--export names onnx, onnx; each may stand there once"),
        ({"bits": 64}, ConfigError, "^bits is 64, and loss 'pool . 1.0.l2' reads no hash bits; leave it out"),
        ({"models": ("resnet81",)}, ModelError, "'resnet81', which timm .* does not have"),
        ({"models": ("resnet18", "resnet18")}, ConfigError, "names one student twice"),
        (
            {"labels": "none"},
            DataError,
            "are not there, and loss .* reads labels of two classes or more; give class folders",
        ),
        ({"class_map": "one"}, DataError, "are only of the class 'ant', and loss"),
        ({"shots": 4}, DataError, "class 'ant' has 3 labelled images, fewer than the 4 shots asked"),
        ({"opt": "adamm"}, ConfigError, "^opt is 'adamm', which timm does not have"),
    ],
)
def test_what_is_wrong_is_told_before_the_teacher_runs(options, tmp_path, monkeypatch, more, error, message):
    monkeypatch.setattr("tcs.extraction.extract.write_pending", None)
    if "class_map" in more:
        (tmp_path / "one").write_text("ant\n")
        more = {"class_map": str(tmp_path / "one")}
    with pytest.raises(error, match=message):
        distilled(options, **more)
    assert not (tmp_path / "work").exists()


def test_test_images_of_other_classes_are_told_before_the_teacher_runs(options, data, tmp_path):
    shutil.copytree(data / "test", tmp_path / "test")
    (tmp_path / "test" / "ant").rename(tmp_path / "test" / "yak")
    with pytest.raises(
        DataError, match=r"^test .* has classes that no training image is of: yak; label images of them"
    ):
        distilled(options, test=str(tmp_path / "test"))
    with pytest.raises(DataError, match=r"^test .*pool has no labels, so nothing can be scored"):
        distilled(options, test=str(data / "pool"))


def test_a_file_at_out_is_left_alone(options, tmp_path):
    (tmp_path / "work").write_text("mine")
    with pytest.raises(tcs.ArtefactError, match=r"^out .*work is a file; the artefacts of a chain go into a folder"):
        distilled(options)


@pytest.mark.parametrize("name", ["few", "pool", "test"])
def test_nothing_is_written_among_the_images(options, data, name):
    before = sorted((data / name).rglob("*"))
    with pytest.raises(
        tcs.ArtefactError, match=rf"^out .*{name}/\.\./{name} is a folder of the images; .* Give another out\."
    ):
        distilled(options, out=f"{data}/{name}/../{name}")
    assert sorted((data / name).rglob("*")) == before


def test_torchrun_is_for_the_single_commands(options, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        ConfigError, match="tcs distill runs in one process; under torchrun run tcs extract and tcs train"
    ):
        distilled(options)


def test_an_export_that_cannot_be_made_is_told_before_the_teacher_runs(options, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="--export is 'coreml'; it must be one of timm, hf, onnx, torch-export"):
        distilled(options, exports=("coreml",))
    monkeypatch.setattr("tcs.export.graphs.ONNX_PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(ConfigError, match=r"^--to onnx needs no_such_package.*pip install 'tcs-distill\[export\]'"):
        distilled(options, exports=("timm", "onnx"))
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"exports": ("hf",), "int8": "x"}, ConfigError, "--int8 has no effect without --export onnx"),
        (
            {"exports": ("hf",), "with_preprocess": True},
            ConfigError,
            "--with-preprocess has no effect without --export onnx",
        ),
        ({"exports": ("onnx",), "max_drop": 2.0}, ConfigError, "--max-drop has no effect without --int8"),
        ({"exports": ("onnx",), "int8": "nowhere"}, DataError, "'nowhere' does not exist; DATA must be a folder"),
        (
            {"exports": ("onnx",), "int8": "x", "method": "tcs-mimic"},
            ConfigError,
            "and the method reads no labels; leave it",
        ),
    ],
)
def test_eight_bits_that_cannot_be_are_told_before_the_teacher_runs(options, tmp_path, more, error, message):
    with pytest.raises(error, match=message):
        distilled(options, **more)
    assert not (tmp_path / "work").exists()


def test_students_without_labels_are_scored_by_a_probe(options):
    outcome = distilled(options, method="tcs-mimic")
    assert [row["method"] for row in outcome.rows] == ["tcs-mimic"]
    assert outcome.rows[0]["labels"] == 0
    assert "top1" in outcome.rows[0]


def test_the_table_says_what_was_seen():
    row = {"model": "m", "method": "labels", "labels": 3, "top1": 50.0, "top5": 100.0, "rows": 12, "seen": 2}
    text = table([row])
    assert "2 of the 12 scored images were SEEN in training or fitting." in text
    assert "Top-1 and top-5 in percent, of 12 images; one run." in text
    assert table([]) == ""


def test_the_plan_of_a_store_with_all_labels_has_no_pool(options):
    plan = make_plan(DistillConfig.from_options(options | {"unlabelled_data": ()}))
    assert (plan.method.loss, plan.split_rows) == ("ce", 9)
    assert np.isclose(plan.test_share, 12 / 9)
