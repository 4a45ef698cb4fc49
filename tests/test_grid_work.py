"""What a process does with cells that fail or were killed: once more, at the end, then a row that says so."""

import pytest

from tcs.grid import work
from tcs.grid.cells import CellLedger
from tcs.grid.ledger import COLUMNS, add_row, load_results
from tcs.grid.method_rows import MethodRow
from tcs.grid.recipe import Cell
from tcs.grid.work import Work, done_keys, run_groups
from tcs.reporting.rows import KEY

METHOD = MethodRow(label="labels", options={}, uses_pool=False)
A, B, C = (Cell(model=model, method=METHOD, shots=4, seed=0, unlabelled="none") for model in "abc")


class Shop:
    """Cells that fail as often as they are told to; what was asked for, in order."""

    def __init__(self, out, fails=(), killed=(), lost=()):
        self.out, self.fails, self.killed, self.lost = out, dict(fails), killed, lost
        self.asked, self.shown = [], []

    def train_together(self, cells, show):
        del show
        self.asked.append("".join(cell.model for cell in cells))
        return {cell.key: "lost alone" if cell.model in self.lost else "" for cell in cells}

    def row(self, cell, show, ended=None):
        del show
        self.asked.append(cell.model)
        row = dict.fromkeys(COLUMNS, "") | dict(zip(KEY, cell.key[-5:], strict=True))
        if cell.model in self.killed:
            raise SystemExit(143)
        left = self.fails.get(cell.model, 0)
        if ended or left:
            self.fails[cell.model] = max(0, left - 1)
            return row | {"status": "failed", "error": ended or "OSError: no"}
        return row | {"status": "ok", "top1": 50.0}

    def begin(self, cells, what):
        self.shown.append(f"{cells} {what}")

    def steps(self, done, of, images, note):
        raise AssertionError("nothing here makes steps")

    def end(self, cell, told, state):
        assert len(cell) == 16
        self.shown.append(f"{state} {told}".strip())

    def run(self, groups, since=None):
        work = Work(out=self.out, train_together=self.train_together, row=self.row)
        run_groups(work, groups, CellLedger(self.out, since), self)
        return {row["model"]: row for row in load_results(self.out / "results.csv")}


def test_students_of_a_stream_are_trained_in_one_call_and_have_rows_of_their_own(tmp_path):
    shop = Shop(tmp_path)
    rows = shop.run([(A, B), (C,)])
    assert shop.asked == ["ab", "a", "b", "c"]
    assert {model: row["status"] for model, row in rows.items()} == dict.fromkeys("abc", "ok")
    assert done_keys(tmp_path) == {A.key, B.key, C.key}
    assert shop.shown == [
        "2 a and 1 more labels 4 0 none",
        "done a labels 4 0 none: top1 50.00",
        "done b labels 4 0 none: top1 50.00",
        "1 c labels 4 0 none",
        "done c labels 4 0 none: top1 50.00",
    ]


def test_a_cell_that_fails_is_tried_again_at_the_end_and_alone(tmp_path):
    shop = Shop(tmp_path, {"a": 1})
    rows = shop.run([(A, B), (C,)])
    assert shop.asked == ["ab", "a", "b", "c", "a"]
    assert rows["a"]["status"] == "ok"
    assert CellLedger(tmp_path).state(A).attempt == 2
    assert "again a labels 4 0 none: failed, and is tried again at the end: OSError: no" in shop.shown


def test_a_cell_that_fails_twice_has_a_row_that_says_why_and_is_tried_by_the_next_command(tmp_path):
    shop = Shop(tmp_path, {"a": 2})
    rows = shop.run([(A, B)])
    assert (rows["a"]["status"], rows["a"]["error"]) == ("failed", "OSError: no")
    assert rows["b"]["status"] == "ok"
    assert shop.shown[-1] == "failed a labels 4 0 none: FAILED: OSError: no"
    assert CellLedger(tmp_path).state(A).state == "failed"
    again = Shop(tmp_path)
    assert again.run([(A, B)])["a"]["status"] == "ok"
    assert again.asked == ["a"]


def test_a_student_that_the_stream_lost_is_not_trained_twice_by_one_attempt(tmp_path):
    shop = Shop(tmp_path, lost=("a",))
    rows = shop.run([(A, B)])
    assert rows["b"]["status"] == "ok"
    assert shop.asked == ["ab", "a", "b", "a"]
    assert "again a labels 4 0 none: failed, and is tried again at the end: lost alone" in shop.shown


def test_an_attempt_that_was_killed_counts_and_is_told(tmp_path, capsys):
    with pytest.raises(SystemExit):
        Shop(tmp_path, killed=("a",)).run([(A, B)])
    assert (CellLedger(tmp_path).state(A).state, CellLedger(tmp_path).state(B).state) == ("running", "running")
    shop = Shop(tmp_path)
    shop.run([(A, B)])
    assert shop.asked == ["ab", "a", "b"]  # a kill says nothing of the stream
    told = capsys.readouterr().err
    assert "a labels 4 0 none: the process at it, " in told
    assert "ended without finishing; trying again." in told
    assert CellLedger(tmp_path).state(A).attempt == 2


def test_a_cell_that_was_killed_twice_goes_alone(tmp_path):
    for _ in range(2):
        with pytest.raises(SystemExit):
            Shop(tmp_path, killed=("a",)).run([(A, B)])
    shop = Shop(tmp_path)
    shop.run([(A, B)])
    assert shop.asked == ["a", "b"]


def test_a_cell_that_ends_its_process_twice_in_one_command_is_given_up(tmp_path):
    since = CellLedger(tmp_path).since
    for _ in range(2):  # the workers of one command
        with pytest.raises(SystemExit):
            Shop(tmp_path, killed=("a",)).run([(A,), (B,)], since)
    shop = Shop(tmp_path)
    rows = shop.run([(A,), (B,)], since)
    assert rows["a"]["status"] == "failed"
    assert "the process that trained it was ended from outside, 2 times (last " in rows["a"]["error"]
    assert rows["b"]["status"] == "ok"
    assert Shop(tmp_path).run([(A,), (B,)])["a"]["status"] == "ok"  # a new command tries it


def test_a_cell_that_was_done_before_is_left_alone(tmp_path):
    row = Shop(tmp_path).row(A, None)
    add_row(tmp_path, row)
    shop = Shop(tmp_path)
    shop.run([(A, B)])
    assert shop.asked == ["b"]


def test_results_are_read_where_they_changed_and_not_at_every_cell(tmp_path, monkeypatch):
    """A row that another process adds counts at once."""
    names = [Cell(model=model, method=METHOD, shots=4, seed=0, unlabelled="none") for model in "abcdef"]
    read = []

    def load(path):
        read.append(path)
        return load_results(path)

    monkeypatch.setattr(work, "load_results", load)
    shop = Shop(tmp_path)
    shop.run([(A,)])
    others = (
        dict.fromkeys(COLUMNS, "") | dict(zip(KEY, names[4].key[-5:], strict=True)) | {"status": "ok", "top1": 50.0}
    )
    add_row(tmp_path, others)
    read.clear()
    shop.asked.clear()
    shop.run([tuple(names)])
    assert shop.asked == ["bcdf", "b", "c", "d", "f"]
    assert len(read) == 2  # before the first try, and before the second of what is left, after rows were added
