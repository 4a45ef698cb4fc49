"""results.csv: a broken line is named by whoever reads the file, and two methods never share the folder of a run."""

import csv
import io
import re

import pytest

from tcs.errors import ArtefactError
from tcs.grid.ledger import COLUMNS, LATER, add_row, load_results
from tcs.grid.method_rows import MethodRow
from tcs.grid.recipe import Cell
from tcs.grid.run import run_name
from tcs.reporting.results import load_runs


def line(seed, **changes):
    row = dict.fromkeys(COLUMNS, "") | {
        "model": "resnet18,layers=(1,1,1,1)",
        "method": "labels",
        "shots": 4,
        "seed": seed,
        "unlabelled": "none",
        "status": "ok",
        "top1": 50.0,
    }
    text = io.StringIO()
    csv.DictWriter(text, COLUMNS, lineterminator="\n").writerow(row | changes)
    return text.getvalue()


def write(folder, *lines):
    (folder / "results.csv").write_text(",".join(COLUMNS) + "\n" + "".join(lines))
    return folder


BROKEN = [
    ((line(0), line(1)[:-1] + ",7\n"), rf"line 3 has {len(COLUMNS) + 1} values for {len(COLUMNS)} columns"),
    ((line(0), line(1)[:50]), r"line 3 has \d+ values for"),
    ((line(0), line(0, top1=60.0)), "line 3 is of the same cell as line 2"),
    ((line(0, top1=150.0),), "line 2 has top1 '150.0', which is no percentage"),
    ((line(0, top1=-0.5),), "line 2 has top1 '-0.5', which is no percentage"),
    ((line(0, top1="nan"),), "line 2 has top1 'nan', which is no percentage"),
    ((line(0, shots=-1),), "line 2 has shots '-1', which is no whole number from 0 up"),
    ((line(0, shots="four"),), "line 2 has shots 'four', which is no whole number from 0 up"),
    ((line(0, status="done"),), "line 2 has status 'done', and not ok or failed"),
    ((line(0), '"torn'), "is no CSV at line 3"),
]


@pytest.mark.parametrize(
    "read", [load_runs, lambda folder: load_results(folder / "results.csv")], ids=["report", "grid"]
)
@pytest.mark.parametrize(("lines", "told"), BROKEN, ids=[told[:28] for _, told in BROKEN])
def test_a_broken_line_is_named_with_the_remedy(tmp_path, read, lines, told):
    with pytest.raises(ArtefactError, match=told + r".*remove the line and run tcs fewshot again\.$"):
        read(write(tmp_path, *lines))


def test_bytes_that_are_no_text_are_named(tmp_path):
    (write(tmp_path, line(0)) / "results.csv").write_bytes(b"model,\xff\n")
    with pytest.raises(ArtefactError, match="is no CSV"):
        load_runs(tmp_path)


def test_whole_lines_are_rows(tmp_path):
    rows = load_results(write(tmp_path, line(0), line(1, error='said "no", twice\nand again'), line(2)) / "results.csv")
    assert [row["seed"] for row in rows] == ["0", "1", "2"]
    assert rows[1]["error"] == 'said "no", twice\nand again'


def test_labels_that_differ_in_what_no_path_can_hold_have_runs_of_their_own():
    names = [
        run_name(
            Cell(
                model="m", method=MethodRow(label=label, options={}, uses_pool=True), shots=4, seed=0, unlabelled="all"
            )
        )
        for label in ("a+b", "a-b", "a b", "a/b", "a-b ")
    ]
    assert len(set(names)) == len(names)
    assert names[1] == "a-b_4_0_all"
    assert all(re.fullmatch(r"a-b[A-Za-z0-9_-]+", name) for name in names)


def test_columns_that_came_later_are_empty_and_written_with_the_next_row(tmp_path):
    whole = load_results(write(tmp_path, line(0), line(1)) / "results.csv")
    earlier = [column for column in COLUMNS if column not in LATER]
    with (tmp_path / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, earlier, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(whole)
    assert load_results(tmp_path / "results.csv") == whole
    add_row(tmp_path, whole[0] | {"seed": 2})
    assert (tmp_path / "results.csv").read_text() == ",".join(COLUMNS) + "\n" + line(0) + line(1) + line(2)


def test_a_column_that_no_release_wrote_is_refused(tmp_path):
    write(tmp_path, line(0))
    text = (tmp_path / "results.csv").read_text().replace("recipe_id", "recipe")
    (tmp_path / "results.csv").write_text(text)
    with pytest.raises(ArtefactError, match="has other columns than this release writes"):
        load_results(tmp_path / "results.csv")


@pytest.mark.parametrize("count", ["1e400", "-1", "nan", "0.5"])
def test_a_count_that_is_none_is_named(tmp_path, count):
    with pytest.raises(ArtefactError, match=rf"line 2 cannot be read \(overlap is '{count}', which is no whole number"):
        load_runs(write(tmp_path, line(0, overlap=count)))
    assert load_runs(write(tmp_path, line(0, overlap="3")))[0].overlap == 3
