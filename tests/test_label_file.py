"""Few labels for many images: `tcs extract --label-file` and `--unlabelled-data`, and `tcs cache label`."""

import dataclasses
import json
import re
import shutil
import subprocess

import pytest
from click.testing import CliRunner
from extraction import config, encoded, fill
from pages import ROOT

import cache
import tcs
from tcs.cli.cache.label import command as label_command
from tcs.config.extract import DataConfig
from tcs.errors import ConfigError, DataError
from tcs.extraction.extract import extract
from tcs.extraction.plan import prepare
from tcs.images.sources import open_images
from tcs.splits.given_labels import read_given_labels


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A flat folder of 12 images, and 5 more in another one."""
    root = tmp_path_factory.mktemp("data")
    for folder, first, count in (("flat", 0, 12), ("pool", 50, 5)):
        (root / folder).mkdir()
        for i in range(count):
            (root / folder / f"{i}.png").write_bytes(encoded(first + i))
    fill(root / "classes", 8)
    return root


def table(path, rows, key="key"):
    path.write_text(f"{key},rank,reason,class\n" + "".join(f"{name},1,,{label}\n" for name, label in rows.items()))
    return str(path)


def names(store):
    opened = cache.open(store)
    return {key: opened.classes[label] for key, label in zip(opened.keys, opened.labels_N, strict=True) if label >= 0}


@pytest.fixture(scope="module")
def extracted(data, tmp_path_factory, teacher):
    """A store of the flat folder with a pool beside it, made with two labels."""
    folder = tmp_path_factory.mktemp("extracted")
    file = table(folder / "l.csv", {"3.png": "cat", "pool/2.png": "dog", "7.png": ""})
    options = config(data / "flat", folder / "x.store", teacher, label_file=file, unlabelled_data=(str(data / "pool"),))
    extract(options)
    return options


@pytest.fixture
def labelled(extracted, tmp_path):
    """Its copy, and the options that made it."""
    shutil.copytree(extracted.out, tmp_path / "x.store")
    shutil.copy(extracted.label_file, tmp_path / "l.csv")
    return dataclasses.replace(extracted, out=str(tmp_path / "x.store"), label_file=str(tmp_path / "l.csv"))


def test_the_file_labels_some_images_and_all_others_are_pool(labelled, data):
    store = cache.open(labelled.out)
    assert len(store) == 17
    assert [key for key in store.keys if key.startswith("pool/")] == [f"pool/{i}.png" for i in range(5)]
    assert store.image_bytes(store.keys.index("pool/2.png")) == (data / "pool" / "2.png").read_bytes()
    assert names(labelled.out) == {"3.png": "cat", "pool/2.png": "dog"}
    assert store.classes == ("cat", "dog")
    assert store.manifest.gate is not None


def test_the_same_pass_without_the_file_makes_a_store_of_the_same_identity(labelled, tmp_path):
    bare = dataclasses.replace(labelled, label_file=None, labels="none", out=str(tmp_path / "bare.store"))
    extract(bare)
    assert cache.open(bare.out).identity == cache.open(labelled.out).identity
    assert cache.open(bare.out).content_digests == cache.open(labelled.out).content_digests
    assert names(bare.out) == {}


def test_a_file_that_has_grown_needs_no_new_pass(labelled, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tcs.extraction.extract.write_pending", None)
    before = {path.name: path.read_bytes() for path in (tmp_path / "x.store").glob("*.h5")}
    table(tmp_path / "l.csv", {"3.png": "cat", "pool/2.png": "cat", "1.png": "dog", "0.png": "dog"})
    extract(labelled)
    told = capsys.readouterr().err
    assert "is finished already; nothing to do" in told
    assert "2 labels added and 1 corrected by" in told
    assert "4 of 17 images are labelled, 2 classes: cat 2, dog 2." in told
    assert names(labelled.out) == {"0.png": "dog", "1.png": "dog", "3.png": "cat", "pool/2.png": "cat"}
    assert {path.name: path.read_bytes() for path in (tmp_path / "x.store").glob("*.h5")} == before
    extract(labelled)
    assert "all 4 labels of" in capsys.readouterr().err


def test_the_plan_counts_labels_that_the_store_was_given_since(labelled):
    cache.set_labels(labelled.out, {"5.png": "yak"}, source={})
    labels, classes = prepare(dataclasses.replace(labelled, dry_run=True)).labels
    assert (sum(label >= 0 for label in labels), classes) == (3, ("cat", "dog", "yak"))
    anew = prepare(dataclasses.replace(labelled, dry_run=True, overwrite=True))
    assert (sum(label >= 0 for label in anew.labels[0]), anew.labels[1]) == (2, ("cat", "dog"))


def test_cache_label_corrects_runs_the_gate_again_and_targets_stay_valid(labelled, tmp_path):
    coordinates, targets = str(tmp_path / "c.safetensors"), str(tmp_path / "t.h5")
    tcs.fit(tcs.FitConfig(store=labelled.out, out=coordinates, components=4))
    options = tcs.TargetsConfig(store=labelled.out, coordinates=coordinates, out=targets, bits=8)
    tcs.fit_targets(options)
    file = table(tmp_path / "more.csv", {"flat/3.png": "x"}, key="path")
    failed = CliRunner().invoke(label_command, [labelled.out, "--label-file", file])
    assert isinstance(failed.exception, DataError)
    keys = cache.open(labelled.out).keys
    table(tmp_path / "more.csv", dict.fromkeys(keys[:6], "dog") | dict.fromkeys(keys[6:12], "cat"))
    done = CliRunner().invoke(label_command, [labelled.out, "--label-file", file, "--json"], catch_exceptions=False)
    found = json.loads(done.stdout)
    assert (found["added"], found["changed"], found["labelled"]) == (11, 1, 13)
    assert found["rows_of_class"] == {"cat": 6, "dog": 7}
    assert found["gate"]["avg"]["classes"] == 2
    assert cache.verify(labelled.out).is_sound
    opened = tcs.open_targets(targets, cache.open(labelled.out).identity)  # refuses another identity
    assert len(opened.z_NK) == 17
    assert tcs.fit_targets(options)  # finds its own output, made with the same options


def history(store):
    return cache.open(store).manifest.later_labels.history


@pytest.mark.parametrize(
    "text",
    ["3.png\n", "\n3.png\r\n7.png", "rank,key\n1,3.png\n2,7.png\n", 'path;note\nFLAT/3.png;"a\nb"\nFLAT/7.png;\n'],
)
def test_labels_are_taken_away_and_no_update_brings_them_back(labelled, data, tmp_path, capsys, text):
    """Of images by key or by path, in lines or in a table; those without a label stay without."""
    opened = cache.open(labelled.out)
    (tmp_path / "gone.txt").write_text(text.replace("FLAT", str(data / "flat")), newline="")
    asked = [labelled.out, "--remove-file", str(tmp_path / "gone.txt"), "--json"]
    done = CliRunner().invoke(label_command, asked, catch_exceptions=False)
    found = json.loads(done.stdout)
    assert (found["added"], found["changed"], found["removed"], found["labelled"]) == (0, 0, 1, 1)
    had_none = "; 1 had none" if "7.png" in text else ""
    assert f"x.store: 1 label taken away by {tmp_path / 'gone.txt'}{had_none}." in done.stderr
    assert names(labelled.out) == {"pool/2.png": "dog"}
    after = cache.open(labelled.out)
    assert (after.identity, after.classes) == (opened.identity, ("dog",))
    assert after.manifest.gate is not None
    entry = history(labelled.out)[-1]
    assert (entry["removed_by"]["file"], entry["added"], entry["changed"], entry["removed"]) == (asked[2], 0, 0, 1)
    again = CliRunner().invoke(label_command, asked, catch_exceptions=False)
    assert json.loads(again.stdout)["removed"] == 0
    assert [entry for entry in history(labelled.out) if "removed_by" in entry] == [entry]
    table(tmp_path / "l.csv", {"pool/2.png": "dog", "1.png": "cat"})
    tcs.update(tcs.UpdateConfig(store=labelled.out, label_file=str(tmp_path / "l.csv")))
    assert names(labelled.out) == {"pool/2.png": "dog", "1.png": "cat"}


def test_one_command_gives_and_takes_in_one_write(labelled, tmp_path, capsys):
    file = table(tmp_path / "more.csv", {"1.png": "dog", "pool/2.png": "cat"})
    (tmp_path / "gone.txt").write_text("3.png\n")
    before = len(history(labelled.out)) if cache.open(labelled.out).manifest.later_labels else 0
    found = tcs.label_store(tcs.LabelConfig(store=labelled.out, label_file=file, remove_file=tmp_path / "gone.txt"))
    assert found == cache.LabelChanges(added=1, changed=1, same=0, removed=1)
    assert names(labelled.out) == {"1.png": "dog", "pool/2.png": "cat"}
    assert len(history(labelled.out)) == before + 1
    told = capsys.readouterr().err
    assert f"1 label added and 1 corrected by {file}." in told
    assert "1 label taken away by" in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"gone\.txt names no image; write keys, one a line, or a table with a column key or path"),
        ("key,note\n", "names no image; write keys"),
        ("3.png\n30.png\n", r"gone\.txt line 2 names '30\.png', which is no image of .*x\.store\."),
        ("key,note\n3.png,\n,x\n", r"gone\.txt line 3 has no key; give it, or delete the line"),
        ("1.png", r"gone\.txt takes the label of '1\.png' away, and .*more\.csv gives it the class 'dog'; keep one of"),
    ],
)
def test_what_a_file_of_labels_to_be_taken_away_may_not_say(labelled, tmp_path, text, message):
    (tmp_path / "gone.txt").write_text(text)
    file = table(tmp_path / "more.csv", {"1.png": "dog"})
    before = (tmp_path / "x.store" / "manifest.json").read_bytes()
    with pytest.raises(DataError, match=message):
        tcs.label_store(tcs.LabelConfig(store=labelled.out, label_file=file, remove_file=tmp_path / "gone.txt"))
    assert (tmp_path / "x.store" / "manifest.json").read_bytes() == before


def test_a_command_that_says_nothing_of_labels_is_refused(labelled, tmp_path):
    with pytest.raises(
        ConfigError, match="nothing says which labels to give; pass --label-file FILE, or --remove-file"
    ):
        tcs.LabelConfig(store=labelled.out)
    with pytest.raises(
        DataError, match=r"remove file .*none\.txt cannot be read \(No such file or directory\); check remove_file"
    ):
        tcs.label_store(tcs.LabelConfig(store=labelled.out, remove_file=tmp_path / "none.txt"))


def test_coordinates_stay_and_a_line_says_that_their_ceiling_is_of_other_labels(labelled, tmp_path, capsys):
    options = tcs.FitConfig(store=labelled.out, out=str(tmp_path / "c.safetensors"), components=4)
    before = tcs.fit(options)
    table(tmp_path / "l.csv", {"5.png": "cat"})
    tcs.label_store(tcs.LabelConfig(store=labelled.out, label_file=tmp_path / "l.csv"))
    capsys.readouterr()
    assert tcs.fit(options).identity == before.identity
    assert (
        "has other labels since: the axes stay, and --overwrite measures their ceiling anew" in capsys.readouterr().err
    )
    assert tcs.fit(dataclasses.replace(options, overwrite=True)).identity == before.identity
    capsys.readouterr()
    tcs.fit(options)
    assert "other labels" not in capsys.readouterr().err


def test_class_folders_keep_their_labels_beside_unlabelled_data(data):
    images = open_images(DataConfig(data=str(data / "classes"), unlabelled_data=(str(data / "pool"), f"{data}/flat/")))
    assert len(images.keys) == 8 + 5 + 12
    assert sum(label >= 0 for label in images.labels) == 8
    assert images.read("flat/3.png") == (data / "flat" / "3.png").read_bytes()
    assert images.files.size("c1/1.png") == (data / "classes" / "c1" / "1.png").stat().st_size
    assert [part["name"] for part in images.origin["unlabelled"]] == ["pool", "flat"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ("pool", "pool"),
            r"--unlabelled-data .*pool would give its images keys that begin with 'pool/', as .*pool does",
        ),
        (("classes/c0",), r"keys that begin with 'c0/', as .*classes does; rename the folder, or give a link"),
        (("nowhere",), r"--unlabelled-data: '.*nowhere' does not exist; DATA must be"),
    ],
)
def test_unlabelled_data_that_cannot_be_added(data, more, message):
    with pytest.raises(DataError, match=message):
        open_images(DataConfig(data=str(data / "classes"), unlabelled_data=tuple(str(data / name) for name in more)))


def test_a_named_data_set_is_no_unlabelled_data(data):
    with pytest.raises(DataError, match=r"--unlabelled-data is torch/cifar10; it must be a folder, a \.tar or a table"):
        open_images(DataConfig(data=str(data / "flat"), unlabelled_data=("torch/cifar10",)))


KEYS = ("a/1.png", "a/2.png", "pool/7.png")


def given(tmp_path, text, origin=None):
    (tmp_path / "l.csv").write_text(text)
    return read_given_labels(str(tmp_path / "l.csv"), KEYS, origin or {}, "my/data")


def test_images_are_named_by_key_by_path_or_without_their_class(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    origin = {
        "kind": "folder",
        "path": "my/data",
        "unlabelled": [{"kind": "folder", "name": "pool", "path": "more/pool"}],
    }
    found = {"a/1.png": "x", "pool/7.png": "y"}
    assert given(tmp_path, "key,class\na/1.png,x\npool/7.png,y\n", origin) == found
    joined = "path,class\na/1.png,x\nkey,rank,reason,class\npool/7.png,1,stands for 2 images,y\npool/8.png,2,far,\n"
    assert given(tmp_path, joined, origin) == found
    assert given(tmp_path, "path,class\r\nmy/data//a/1.png,x\r\nmore/pool/7.png,y\r\n", origin) == found
    for between in ",;\t":
        lines = (("class", "path"), ("x", f"{tmp_path}/my/data/a/1.png"), ("y", "./more/pool/7.png"))
        assert given(tmp_path, "".join(f"{between.join(line)}\n" for line in lines), origin) == found
    assert given(tmp_path, "a 1.png\nb a/2.png\n") == {"a/1.png": "a", "a/2.png": "b"}
    assert given(tmp_path, "key,class\na/1.png,x\na/1.png,x\n") == {"a/1.png": "x"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("key,class\na/1.pn,x\n", r"line 2 names 'a/1.pn', which is no image of my/data. Did you mean a/1.png"),
        ("key,class\nb/7.png,x\n", r"line 2 names 'b/7.png', which is no image of my/data. Did you mean pool/7.png\?"),
        ("key,class\nzzzzzzzzzz,x\n", r"which is no image of my/data. Correct it\."),
        (
            "key,class\na/1.png,x\na/1.png,y\n",
            r"line 3 gives 'a/1.png' the class 'y', and line 2 gives it 'x'; keep one",
        ),
        ("key,class\na/1.png,\n", r"l.csv labels no image; write lines `class key`, or fill in the column class"),
        ("", r"l.csv labels no image"),
    ],
)
def test_lines_that_cannot_be_followed(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        given(tmp_path, text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "key,class\na/1.png,G\xe4nse\n".encode("latin-1"),
            r"line 2 has a class that is not UTF-8 .*; save it as UTF-8",
        ),
        (
            "key,class\na/1.png,x\n".encode("utf-16"),
            r"l.csv is UTF-16; save it as UTF-8 \(in a spreadsheet: CSV UTF-8\)\.$",
        ),
        (
            b'key,class\na/1.png,"x\na/2.png,x\n',
            r"has the class 'x\\na/2.png,x', which holds control characters; is a quote left open before it\?",
        ),
        (
            b"key,class\na/1.png," + b"x" * 200_000,
            r"l.csv is no table \(field larger than field limit \(131072\)\); save it",
        ),
    ],
)
def test_a_file_that_is_no_text(tmp_path, content, message):
    (tmp_path / "l.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_given_labels(str(tmp_path / "l.csv"), KEYS, {}, "my/data")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_any_system(tmp_path, end):
    for text in ("key,class\na/1.png,x\nb/2.png,\n", "x a/1.png\n\n"):
        (tmp_path / "l.csv").write_bytes(text.replace("\n", end).encode("utf-8-sig"))
        assert read_given_labels(str(tmp_path / "l.csv"), KEYS, {}, "my/data") == {"a/1.png": "x"}


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"label file .*no.csv cannot be read \(No such file or directory\)"):
        read_given_labels(str(tmp_path / "no.csv"), KEYS, {}, "my/data")


def test_a_wrong_file_stops_before_the_pass(labelled, tmp_path):
    table(tmp_path / "l.csv", {"99.png": "cat"})
    with pytest.raises(DataError, match=r"line 2 names '99.png', which is no image of .*flat"):
        extract(dataclasses.replace(labelled, out=str(tmp_path / "y.store")))
    assert not (tmp_path / "y.store").exists()


@pytest.mark.parametrize("option", [{"labels": "folder"}, {"class_map": "c.txt"}, {"target_key": "kind"}])
def test_who_says_what_is_labelled_is_one(data, teacher, tmp_path, option):
    (name,) = option
    with pytest.raises(ConfigError, match=f"so it excludes --{name.replace('_', '-')}; give one of them"):
        config(data / "flat", tmp_path / "y.store", teacher, label_file="l.csv", **option)


def test_a_repair_keeps_the_labels_though_the_file_is_gone(labelled, tmp_path):
    (tmp_path / "l.csv").unlink()
    (tmp_path / "x.store" / "shard-00001.h5").unlink()
    assert tcs.repair(tcs.RepairConfig(store=labelled.out)).is_sound
    assert names(labelled.out) == {"3.png": "cat", "pool/2.png": "dog"}


@pytest.mark.parametrize("is_readable", [True, False])
def test_a_damaged_manifest_gives_back_the_labels_it_still_tells(labelled, tmp_path, capsys, is_readable):
    (tmp_path / "l.csv").unlink()
    path = tmp_path / "x.store" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["provenance"]["config"]["label_file"] = str(tmp_path / "l.csv")
    manifest["shards"][0]["rows"] += 1
    if not is_readable:
        manifest["labels"]["labels"] = manifest["labels"]["labels"][1:]
    path.write_text(json.dumps(manifest))
    assert tcs.repair(tcs.RepairConfig(store=labelled.out)).is_sound
    assert names(labelled.out) == ({"3.png": "cat", "pool/2.png": "dog"} if is_readable else {})
    assert ("give them again with tcs cache label" in capsys.readouterr().err) is not is_readable


GLUED = r"the header {} of a joined table has no line of its own; begin a new line before it\.$"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "path,class\na/1.png,tulipskey,rank,reason,class\npool/7.png,1,far,roses\n",
            r"l\.csv line 2 has 5 cells \(a/1\.png, tulipskey, rank, reason, class\), and its header 2 \(path, class\); "
            + GLUED.format("key,rank,reason,class"),
        ),
        ("path,class\na/1.png,key,rank,reason,class\n", GLUED.format("key,rank,reason,class")),  # of a class left empty
        ("class;path\nx;a/1.pngclass;path\ny;a/2.png\n", GLUED.format("class,path")),
        ("path,class\na/1.png,xrank,key,class\n", GLUED.format("key,class")),
        (
            "key,rank,reason,class\na/1.png,1,far,x\na/2.png,2,far,xkey,rank,reason,class\n",
            r"line 3 has 7 cells .*, and its header 4 \(key, rank, reason, class\); "
            + GLUED.format("key,rank,reason,class"),
        ),
        (
            "path,class\na/1.png,roses,extra,7\n",
            r"line 2 has 4 cells \(a/1\.png, roses, extra, 7\), and its header 2 \(path, class\); quote a cell that holds the "
            r"delimiter, or name every column in the header\.$",
        ),
        ("path,class\na,1.png,x\n", r"line 2 has 3 cells \(a, 1\.png, x\)"),
        (
            "path,class\na/1.png,x\nkey;rank;reason;class\npool/7.png;1;far;y\n",
            r"line 3 begins a table with the delimiter ';', and the one before it has ','; save both with the same\.$",
        ),
    ],
)
def test_a_row_of_more_cells_than_its_header_gives_no_label(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        given(tmp_path, text)


@pytest.mark.parametrize("page", ["start/first-student.md", "how-to/labelling.md"])
def test_tables_are_joined_as_the_page_says_whether_or_not_an_editor_ended_the_last_line(page, tmp_path):
    (line,) = re.findall(r"^\(cat .*", (ROOT / "docs" / page).read_text(), re.MULTILINE)
    first, second, joined = re.findall(r"[\w/]+\.csv", line)
    (tmp_path / second).parent.mkdir(exist_ok=True)
    (tmp_path / second).write_text("key,rank,reason,class\na/2.png,1,far,y\n")
    for end in ("", "\n", "\r\n"):
        (tmp_path / first).write_text(f"path,class\na/1.png,x{end}", newline="")
        subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True)
        text = (tmp_path / joined).read_bytes().decode()
        assert given(tmp_path, text) == {"a/1.png": "x", "a/2.png": "y"}


@pytest.mark.parametrize(
    "text",
    [
        "path,class\na/1.png,x\nid,key,class\n7,a/2.png,y\n",  # whose second cell is `key`, as after a row without a class
        "path,class\na/1.png,x,,\na/2.png,y,\n",
        "key,rank,reason,class\na/1.png,1,far,x\n\n\ufeffkey,rank,reason,class\r\na/2.png,1,far,y\r\n",
        "path,class\na/1.png,x\n\nkey,rank,reason,class\na/2.png,1,far,y",
    ],
    ids=["another first column", "empty cells", "byte-order mark", "echo"],
)
def test_joined_tables_and_empty_cells_are_read(tmp_path, text):
    assert given(tmp_path, text) == {"a/1.png": "x", "a/2.png": "y"}
