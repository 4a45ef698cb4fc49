"""CSV and parquet tables of paths: what their texts mean, and every way a table can be wrong."""

import pathlib
import sys
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tcs.config.extract import DataConfig
from tcs.errors import DataError
from tcs.images.listing import ImageList
from tcs.images.table import open_table


def listed(path: pathlib.Path, content: bytes | str | None = None, **options: str) -> ImageList:
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return open_table(DataConfig(data=str(path), **options))


def parquet(path: pathlib.Path, columns: dict[str, Any]) -> pathlib.Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


@pytest.fixture
def table(tmp_path: pathlib.Path) -> pathlib.Path:
    for name in ("a/1.png", "a/2.png", "b/10.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path / "t.csv"


def test_rows_are_sorted_by_key_and_labels_are_names(table: pathlib.Path) -> None:
    found = listed(table, "label,path,split\n10,b/10.png,x\n9,./a//2.png,x\n,a/1.png,x\n")
    assert (found.keys, found.labels, found.classes) == (("a/1.png", "a/2.png", "b/10.png"), (-1, 0, 1), ("9", "10"))
    assert [found.read(key) for key in found.keys] == [b"a/1.png", b"a/2.png", b"b/10.png"]
    assert found.size_bytes() == 7 + 7 + 8
    assert found.notes == (f"columns of {table} that are not read: split.",)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_marks_line_ends_quotes_and_empty_lines(table: pathlib.Path, ends: str) -> None:
    lines = ["\ufeffpath, label", '"a/1.png","cat, ""big"""', "", "a/2.png, dog ", ""]
    found = listed(table, ends.join(lines))
    assert (found.keys, found.classes) == (("a/1.png", "a/2.png"), ('cat, "big"', "dog"))


def test_no_place_is_recorded_beyond_what_the_user_wrote(table: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table.write_text("path\n1.png\n")
    monkeypatch.chdir(table.parent)
    found = open_table(DataConfig(data=table.name))
    assert dict(found.origin) == {"kind": "csv", "path": table.name, "base": None}


def test_paths_alone_are_unlabelled_and_labels_none_reads_no_label(table: pathlib.Path) -> None:
    assert listed(table, "path\na/1.png\n").labels == (-1,)
    assert listed(table, "path,label\na/1.png,x\n", labels="none").classes == ()


def test_key_column_names_images_wherever_they_lie(table: pathlib.Path) -> None:
    outside = table.parent / "b/10.png"
    rows = f"path,key,label\n{outside},eins,x\n../a/1.png,zwei,y\n2.png,,y\n"
    found = listed(table, rows, data_dir=str(table.parent / "a"))
    assert found.keys == ("2.png", "eins", "zwei")
    assert [found.read(key) for key in found.keys] == [b"a/2.png", b"b/10.png", b"a/1.png"]


def test_absolute_paths_below_the_folder_have_the_keys_of_relative_ones(table: pathlib.Path) -> None:
    assert listed(table, f"path\n{table.parent}/a/1.png\n").keys == ("a/1.png",)


@pytest.mark.parametrize("path", ["/elsewhere/1.png", "../1.png", "a/../../1.png"])
def test_paths_out_of_the_folder_need_a_key(table: pathlib.Path, path: str) -> None:
    with pytest.raises(
        DataError, match=r"t\.csv row 2: the path '.*' leads out of .*; name a --data-dir above it, or add"
    ):
        listed(table, f"path\n{path}\n")


def test_other_column_names_are_given_as_timm_does(table: pathlib.Path) -> None:
    found = listed(table, "file,kind\na/1.png,cat\n", input_key="file", target_key="kind")
    assert (found.keys, found.classes, found.notes) == (("a/1.png",), ("cat",), ())


def test_missing_image_is_listed_and_cannot_be_read(table: pathlib.Path) -> None:
    found = listed(table, f"path\na/1.png\na/gone.png\n{'x' * 300}.png\n")
    assert found.size_bytes() == 7
    for key in found.keys[1:]:
        with pytest.raises(OSError, match=r"No such file|name too long"):
            found.read(key)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"t\.csv is empty; its first line must name the columns: path, and label where there are any"),
        ("path,label\n", "has a header and no rows; write one row per image"),
        (
            "a/1.png,cat\n",
            r"no column 'path' \(its columns, by the first line: a/1\.png, cat\); rename one, or name it wit",
        ),
        (
            "pfad;klasse\nx;y\n",
            r"columns, by the first line, separated by semicolons: pfad, klasse\); rename .*--input-key\. Did you mean pfad\?",
        ),
        ("paths;label\nx;y\n", r"separated by semicolons: paths, label\); .* --input-key\. Did you mean paths\?"),
        ("pfad\tklasse, oder Art\n", r"no column 'path' \(its columns, by the first line: pfad\tklasse, oder Art\)"),
        ("pfad\tklasse\n", r"by the first line, separated by tabs: pfad, klasse\)"),
        ("Path\nx\n", r"has no column 'path' .* --input-key\. Did you mean Path\?"),
        ("path,path\nx,y\n", "has two columns 'path'; remove one of them"),
        ("path,label\na/1.png\n", r"line 2 has 1 fields, the header 2; put texts with commas in double quotes"),
        ("path,label\na,1.png,cat\n", "line 2 has 3 fields, the header 2"),
        ('path\n"a"b\n', r"line 2 is no CSV \(.*expected after.*\); correct it"),
        ('path\n"a\n', r"line 2 is no CSV \(unexpected end of data\); correct it"),
        ("path,label\n,cat\n", "has no path in row 2; fill it in or remove the row"),
        ("path\na\0b\n", r"has no path in row 2|line contains NUL"),
        ("path\na\nb\n./a\n", "has the key 'a' in the rows 2 and 4; remove one of them"),
        (b"path\n\xff\xfe.png\n", r"is not UTF-8 text \(.*\); save it as UTF-8"),
        ("path\n" + "x" * 200_000, r"line 2 is no CSV \(field larger than field limit"),
    ],
)
def test_tables_that_are_wrong_are_refused(table: pathlib.Path, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        listed(table, content)


def test_what_is_asked_for_must_be_there(table: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(DataError, match=r"no column 'kind' .*, or name it with --target-key"):
        listed(table, "path,label\nx,y\n", target_key="kind")
    with pytest.raises(DataError, match=r"--data-dir .*nowhere is no folder; give the one that the paths in"):
        listed(table, "path\nx\n", data_dir=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"no\.csv is no file; DATA must be a folder"):
        listed(tmp_path / "no.csv")


def test_unreadable_table_is_named(table: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table.write_text("path\nx\n")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tcs.images.table.open_ordinary", refuse)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\); correct its permissions"):
        listed(table)


def test_parquet_gives_what_csv_gives(table: pathlib.Path) -> None:
    by_csv = listed(table, "path,label\nb/10.png,10\na/2.png,9\na/1.png,\n")
    for labels in (["10", "9", None], pyarrow.array([10, 9, None], pyarrow.int16())):
        columns = {"path": ["b/10.png", "a/2.png", "a/1.png"], "label": labels, "odd": [1.0, 2.0, 3.0]}
        found = listed(parquet(table.with_suffix(".parquet"), columns))
        assert (found.keys, found.labels, found.classes) == (by_csv.keys, by_csv.labels, by_csv.classes)
        assert found.notes[0].endswith("not read: odd.")
    coded = pyarrow.array(["x", "y", "x"]).dictionary_encode()
    assert listed(parquet(table.with_suffix(".parquet"), {"path": ["1", "2", "3"], "label": coded})).labels == (0, 1, 0)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": ["a"]}, r"has no column 'path' \(its columns, by the first line: x\)"),
        ({"path": [1]}, "has the column path of type int64; it must hold texts"),
        ({"path": ["a"], "label": [1.5]}, "the column label of type double; it must hold texts or whole numbers"),
        ({"path": ["a"], "label": [True]}, "the column label of type bool; it must hold texts or whole numbers"),
        ({"path": ["a"], "label": [["b"]]}, "column label of type list.*; it must hold texts or whole numbers"),
        ({"path": [None, "a"]}, "has no path in row 1; fill it in or remove the row"),
        ({"path": ["a", "a"]}, "has the key 'a' in the rows 1 and 2; remove one of them"),
        ({"path": pyarrow.array([], pyarrow.string())}, "has a header and no rows"),
        ({"image": [{"bytes": b"x", "path": "y"}]}, r"holds the images themselves \(column image\); read it as hfds/"),
        ({"image": [b"x"], "label": [1]}, r"holds the images themselves \(column image\); read it as hfds/"),
    ],
)
def test_parquet_of_another_schema_is_refused(tmp_path: pathlib.Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        listed(parquet(tmp_path / "t.parquet", columns))


@pytest.mark.parametrize("content", [b"", b"path,label\na,b\n", b"PAR1" + bytes(100) + b"PAR1"])
def test_garbage_is_no_parquet(tmp_path: pathlib.Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"t\.parquet cannot be read as parquet \(.*\); write it again"):
        listed(tmp_path / "t.parquet", content)


def test_parquet_without_pyarrow_says_how_to_get_it(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"needs pyarrow: pip install tcs-distill\[data\]$"):
        listed(tmp_path / "t.parquet", b"x")
