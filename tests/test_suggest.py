"""`tcs suggest`: what is suggested, what it never reads, and files that belong to the people who fill them in."""

import json

import numpy as np
import pytest
from artefacts import make_store, png
from killed import kill_while
from PIL import Image
from suggesting import fill_in, rows_of, run

import cache
import tcs
import tcs.labelling.suggest
from tcs.cli import main
from tcs.errors import ArtefactError, DataError
from tcs.splits.shots import read_split_file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suggest")
    make_store(folder / "x.store")
    return folder


def test_table_has_a_line_an_image_and_an_empty_class(folder, tmp_path):
    found = run(folder, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().splitlines()[0] == "key,rank,reason,class"
    rows = rows_of(tmp_path / "out.csv")
    assert [(row["key"], row["rank"], row["reason"], row["class"]) for row in rows] == [
        (item.key, str(rank), item.reason, "") for rank, item in enumerate(found, 1)
    ]
    keys = cache.open(folder / "x.store").keys
    assert [keys[item.row] for item in found] == [item.key for item in found]
    assert len({item.key for item in found}) == 6


def test_first_images_show_every_class_of_a_clear_store(folder, tmp_path):
    found = run(folder, tmp_path / "out.csv", n=3)
    assert {item.key.partition("/")[0] for item in found} == {"ant", "bee", "cow"}
    assert {item.reason for item in found} == {"stands for 20 images"}


def test_same_seed_same_images_and_another_seed_others(folder, tmp_path):
    found = [run(folder, tmp_path / f"{i}.csv", n=12, seed=seed) for i, seed in enumerate((1, 1, 2))]
    assert (tmp_path / "0.csv").read_bytes() == (tmp_path / "1.csv").read_bytes()
    assert found[0] != found[2]


def scrambled(source, target, change):
    """The store with other labels, or none, and the same rows."""
    opened = cache.open(source)
    labels = change([opened.classes[label] for label in opened.labels_N])
    return cache.create(target, {"avg": opened.features()[:]}, keys=list(opened.keys), labels=labels)


@pytest.mark.parametrize("change", [lambda labels: labels[7:] + labels[:7], lambda labels: None], ids=["moved", "none"])
@pytest.mark.parametrize("is_labelled", [False, True])
def test_labels_of_the_store_are_never_read(folder, tmp_path, change, is_labelled):
    scrambled(folder / "x.store", tmp_path / "x.store", change)
    first = run(folder, tmp_path / "first.csv", n=4)
    labelled = fill_in(tmp_path / "first.csv", tmp_path / "labels.csv") if is_labelled else None
    ours = run(folder, tmp_path / "ours.csv", labelled=labelled)
    assert run(tmp_path, tmp_path / "theirs.csv", labelled=labelled) == ours
    assert (tmp_path / "ours.csv").read_bytes() == (tmp_path / "theirs.csv").read_bytes()
    assert len(first) == 4


def test_labelled_rows_are_never_suggested_and_empty_ones_may_be(folder, tmp_path):
    run(folder, tmp_path / "first.csv", n=20)
    labelled = fill_in(tmp_path / "first.csv", tmp_path / "labels.csv", skip={2, 5})
    rows = {row["key"]: row["class"] for row in rows_of(labelled)}
    found = run(folder, tmp_path / "rest.csv", n=42, labelled=labelled)
    assert {item.key for item in found} == set(cache.open(folder / "x.store").keys) - {
        key for key, name in rows.items() if name
    }


def test_clusters_without_a_label_come_first(folder, tmp_path):
    keys = [f"{name} {key}" for key in cache.open(folder / "x.store").keys if (name := key[:3]) != "cow"]
    (tmp_path / "labels.txt").write_text("\n".join(keys))
    found = run(folder, tmp_path / "out.csv", n=5, labelled=tmp_path / "labels.txt")
    assert {item.key[:3] for item in found} == {"cow"}
    assert all("no label; margin" in item.reason for item in found)


def test_tables_of_several_rounds_may_be_joined(folder, tmp_path):
    run(folder, tmp_path / "1.csv")
    first = fill_in(tmp_path / "1.csv", tmp_path / "1 filled.csv")
    run(folder, tmp_path / "2.csv", labelled=first)
    second = fill_in(tmp_path / "2.csv", tmp_path / "2 filled.csv")
    (tmp_path / "both.csv").write_bytes(first.read_bytes() + second.read_bytes())
    known = {row["key"] for path in (first, second) for row in rows_of(path)}
    assert len(known) == 12
    found = run(folder, tmp_path / "3.csv", n=48, labelled=tmp_path / "both.csv")
    assert not known & {item.key for item in found}


def test_one_class_so_far_is_said_and_gives_no_margin(folder, tmp_path, capsys):
    run(folder, tmp_path / "1.csv")
    labelled = fill_in(tmp_path / "1.csv", tmp_path / "labels.csv", name=lambda key: "ant")
    found = run(folder, tmp_path / "2.csv", labelled=labelled)
    assert all("margin" not in item.reason for item in found)
    assert "are of one class; where labels are unsure can be told from two classes on" in capsys.readouterr().err


def test_a_rerun_keeps_what_people_filled_in_and_writes_what_is_missing(folder, tmp_path, capsys):
    out = tmp_path / "out.csv"
    found = run(folder, out)
    fill_in(out, out)
    filled = out.read_bytes()
    assert run(folder, out, sheet=tmp_path / "sheet.png") == found
    assert out.read_bytes() == filled
    assert (tmp_path / "sheet.png").is_file()
    assert "is already there, made with the same options; it is left as it is" in capsys.readouterr().err


def test_files_of_the_user_are_not_overwritten(folder, tmp_path):
    out = tmp_path / "out.csv"
    run(folder, out)
    before = fill_in(out, out).read_bytes()
    with pytest.raises(ArtefactError, match=r"was made otherwise .* or pass overwrite to replace it with its classes"):
        run(folder, out, seed=7)
    with pytest.raises(ArtefactError, match="has 6 rows and not 5; name another out, or pass overwrite"):
        run(folder, out, n=5)
    assert out.read_bytes() == before
    run(folder, out, n=5, overwrite=True)
    assert [row["class"] for row in rows_of(out)] == [""] * 5
    (tmp_path / "letter.csv").write_text("dear,sir")
    with pytest.raises(ArtefactError, match="is no table of suggestions; name another out"):
        run(folder, tmp_path / "letter.csv")
    (tmp_path / "holiday.png").write_bytes(b"mine")
    with pytest.raises(ArtefactError, match=r"holiday\.png exists, without the table"):
        run(folder, tmp_path / "new.csv", sheet=tmp_path / "holiday.png")
    assert (tmp_path / "holiday.png").read_bytes() == b"mine"


def test_a_folder_with_other_files_is_not_replaced_even_when_asked(folder, tmp_path):
    copies = tmp_path / "copies"
    run(folder, tmp_path / "out.csv", folder=copies)
    run(folder, tmp_path / "out.csv", n=4, folder=copies, overwrite=True)
    assert len(list(copies.iterdir())) == 4
    (tmp_path / "copies.0123abcd.partial").mkdir()  # of one that was killed
    (tmp_path / "copies.0123abcd.partial" / "0001-a.png").write_bytes(b"half")
    run(folder, tmp_path / "out.csv", n=4, folder=copies, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copies", "out.csv"]
    (copies / "notes.txt").write_text("mine")
    with pytest.raises(ArtefactError, match=r"holds 'notes.txt', which is no copy of a suggested image"):
        run(folder, tmp_path / "out.csv", n=4, folder=copies, overwrite=True)
    assert (copies / "notes.txt").read_text() == "mine"


def test_folder_holds_the_bytes_in_order_of_rank(folder, tmp_path):
    found = run(folder, tmp_path / "out.csv", folder=tmp_path / "copies")
    store = cache.open(folder / "x.store")
    names = sorted(path.name for path in (tmp_path / "copies").iterdir())
    assert names == [f"{item.rank:04}-{item.key.rpartition('/')[2]}" for item in found]
    for name, item in zip(names, found, strict=True):
        assert (tmp_path / "copies" / name).read_bytes() == store.image_bytes(item.row)


@pytest.mark.parametrize("name", ["sheet.png", "sheet.jpg"])
def test_sheet_shows_the_images_in_order_of_rank(folder, tmp_path, name):
    found = run(folder, tmp_path / "out.csv", n=5, sheet=tmp_path / name)
    with Image.open(tmp_path / name) as sheet:
        assert sheet.format == {"sheet.png": "PNG", "sheet.jpg": "JPEG"}[name]
        assert sheet.size == (3 * 132, 2 * 146)
        pixels = np.asarray(sheet.convert("L")).astype(float)
    for index, item in enumerate(found):
        top, left = 146 * (index // 3) + 4, 132 * (index % 3) + 2
        bright = pixels[top : top + 128, left : left + 128].mean(axis=0)
        label = ("ant", "bee", "cow").index(item.key[:3])  # whose columns 5 x label to 5 x label + 5 of 16 are bright
        assert abs(bright.reshape(16, 8).mean(axis=1).argmax() - (5 * label + 2)) <= 2
        text = pixels[top + 128 : top + 142, left : left + 128]
        assert (text < 100).sum() > 20
    assert (pixels[146 + 8 : 146 + 132, 2 * 132 + 8 :] > 250).all()


def test_what_a_killed_writer_left_beside_pictures_that_are_there_is_removed(folder, tmp_path):
    given = {"sheet": tmp_path / "s.png", "folder": tmp_path / "copies"}
    run(folder, tmp_path / "out.csv", **given)
    (tmp_path / "copies.0123abcd.partial").mkdir()  # killed when the folder had its name
    run(folder, tmp_path / "out.csv", **given)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copies", "out.csv", "s.png"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_command_that_was_killed_is_run_again(folder, tmp_path, monkeypatch, renames):
    given = {"sheet": tmp_path / "s.png", "folder": tmp_path / "copies"}
    kill_while(
        monkeypatch, tcs.labelling.suggest, "_write", renames, lambda: run(folder, tmp_path / "out.csv", **given)
    )
    run(folder, tmp_path / "out.csv", **given)
    (tmp_path / "fresh").mkdir()
    run(folder, tmp_path / "fresh" / "out.csv", sheet=tmp_path / "fresh/s.png", folder=tmp_path / "fresh/copies")
    for path in (tmp_path / "fresh").rglob("*.*"):
        assert (tmp_path / path.relative_to(tmp_path / "fresh")).read_bytes() == path.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copies", "fresh", "out.csv", "s.png"]


def test_images_of_a_store_without_any_come_from_data(tmp_path):
    with_images = make_store(tmp_path / "images.store", rows=12)
    for row, key in enumerate(with_images.keys):
        path = tmp_path / "data" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(with_images.image_bytes(row))
    make_store(tmp_path / "x.store", rows=12, images="none")
    with pytest.raises(DataError, match=r"holds no images .*give them with data,"):
        run(tmp_path, tmp_path / "out.csv", sheet=tmp_path / "s.png")
    assert not (tmp_path / "out.csv").exists()
    run(tmp_path, tmp_path / "out.csv", folder=tmp_path / "copies", data=tmp_path / "data")
    assert len(list((tmp_path / "copies").iterdir())) == 6


def test_a_broken_image_is_named_and_leaves_nothing(tmp_path):
    cache.create(
        tmp_path / "x.store",
        {"avg": np.eye(3, dtype=np.float32)},
        keys=["a.png", "b.png", "c.png"],
        images=[png(np.zeros((4, 4, 3), np.uint8)), b"no image", b"nor this"],
    )
    with pytest.raises(DataError, match=r"image '[bc]\.png' cannot be decoded: not an image file; check the store"):
        run(tmp_path, tmp_path / "out.csv", n=3, sheet=tmp_path / "s.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.store"]


def test_keys_that_fonts_and_disks_do_not_know(tmp_path):
    pixels = png(np.zeros((4, 9, 3), np.uint8))
    keys = ["猫/" + "ä" * 300 + ".png", 'a/b:"c".png', "d,e.png"]
    cache.create(tmp_path / "x.store", {"avg": np.eye(3, dtype=np.float32)}, keys=keys, images=[pixels] * 3)
    run(tmp_path, tmp_path / "out.csv", n=3, sheet=tmp_path / "s.png", folder=tmp_path / "copies")
    assert {row["key"] for row in rows_of(tmp_path / "out.csv")} == set(keys)
    assert {path.name[5:] for path in (tmp_path / "copies").iterdir()} == {"ä" * 58 + ".png", "b__c_.png", "d,e.png"}


def test_maps_and_views_are_read_as_one_vector_a_row(tmp_path):
    make_store(tmp_path / "x.store", rows=12, grid=(2, 2), views=2)
    assert len(run(tmp_path, tmp_path / "out.csv", n=4)) == 4


def test_command_prints_a_line_an_image_or_json(folder, tmp_path, capsys):
    arguments = ["suggest", str(folder / "x.store"), "--n", "2", "--out", str(tmp_path / "out.csv")]
    for more in ([], ["--json"]):
        with pytest.raises(SystemExit) as left:
            main([*arguments, *more])
        assert left.value.code == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3
    told = json.loads(printed[2])
    assert [row["key"] for row in told["suggestions"]] == [line.split()[1] for line in printed[:2]]
    assert told["out"] == str(tmp_path / "out.csv")


def test_the_filled_in_table_is_a_split_file(folder, tmp_path):
    out = tmp_path / "out.csv"
    found = run(folder, out, n=9)
    fill_in(out, out, skip={9})
    system = tcs.fit(
        tcs.FitConfig(
            store=folder / "x.store", out=tmp_path / "c.safetensors", components=4, split_file=out, ceiling_shots=()
        )
    )
    assert system.selection is not None
    chosen = [item.key for item in found[:8]]
    store = cache.open(folder / "x.store")
    split = read_split_file(out, store.keys, store.labels_N, store.classes)
    assert {store.keys[row] for row in split.rows_n} == set(chosen)
