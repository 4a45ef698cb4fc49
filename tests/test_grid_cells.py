"""cells.jsonl: attempts are counted, whoever makes them; what a kill cut short is told and dropped, what is broken is named."""

import json

import pytest
from forks import fork_context

import cache
from tcs.errors import ArtefactError
from tcs.grid.cells import CellLedger
from tcs.grid.method_rows import MethodRow
from tcs.grid.recipe import Cell
from tcs.reporting.rows import CELLS

METHOD = MethodRow(label="labels", options={}, uses_pool=False)
A, B = (Cell(model="m", method=METHOD, shots=4, seed=seed, unlabelled="none") for seed in (0, 1))


def lines(folder):
    return [json.loads(line) for line in (folder / CELLS).read_text().splitlines()]


def test_a_line_says_which_cell_what_of_it_and_where(tmp_path):
    ledger = CellLedger(tmp_path)
    ledger.begin([A])
    ledger.end(A, seconds=1.234, predictions="predictions/x.npz")
    begun, done = lines(tmp_path)
    assert list(A.key) == begun["key"] == ["", "m", "labels", "4", "0", "none"]
    assert A.digest == begun["cell"] == cache.digest_of_json(["", "m", "labels", "4", "0", "none"])[:16]
    assert (begun["state"], begun["attempt"], begun["seconds"], begun["predictions"]) == ("running", 1, None, "")
    assert (done["state"], done["attempt"], done["seconds"], done["error"]) == ("done", 1, 1.23, "")
    assert done["predictions"] == "predictions/x.npz"
    assert begun["at"].endswith("+00:00")
    assert begun["where"].rpartition(":")[2].isdecimal()


def test_attempts_are_counted_from_the_first_and_tries_from_when_the_command_began(tmp_path):
    CellLedger(tmp_path).begin([A, B])  # a process that was killed
    ledger = CellLedger(tmp_path)
    assert (ledger.state(A).state, ledger.state(A).attempt, ledger.tries(A)) == ("running", 1, 0)
    ledger.begin([A])
    ledger.end(A, seconds=0.5, error="OSError: gone")
    assert (ledger.state(A).state, ledger.state(A).attempt, ledger.state(A).error) == ("failed", 2, "OSError: gone")
    assert (ledger.tries(A), ledger.tries(B)) == (1, 0)
    helper = CellLedger(tmp_path, ledger.since)  # a worker that is started later by the same command
    assert (helper.tries(A), helper.tries(B), helper.since) == (1, 0, ledger.since)
    helper.begin([B])
    assert (ledger.tries(B), ledger.state(B).attempt) == (1, 2)
    assert CellLedger(tmp_path).tries(A) == 0


def test_a_cell_that_was_never_begun_has_no_state(tmp_path):
    ledger = CellLedger(tmp_path)
    assert (ledger.state(A), ledger.tries(A), ledger.since) == (None, 0, 0)
    assert not (tmp_path / CELLS).exists()


@pytest.mark.parametrize("cut", [1, 30, 10_000])
def test_a_line_that_was_cut_short_is_told_and_goes_with_the_next_one(tmp_path, capsys, cut):
    ledger = CellLedger(tmp_path)
    ledger.begin([A])
    whole = (tmp_path / CELLS).read_bytes()
    ledger.begin([B])
    data = (tmp_path / CELLS).read_bytes()
    (tmp_path / CELLS).write_bytes(data[: max(len(whole) + 1, len(data) - cut)])
    later = CellLedger(tmp_path)
    assert "ends in a line that was cut short" in capsys.readouterr().err
    assert later.state(B) is None
    assert later.since == len(whole)
    later.begin([B])
    assert [(line["cell"], line["attempt"]) for line in lines(tmp_path)] == [(A.digest, 1), (B.digest, 1)]
    assert later.state(B).attempt == 1


@pytest.mark.parametrize("line", ["nonsense", "[1]", '{"cell": "x"}', '{"cell": 1, "state": "done"}'])
def test_a_whole_line_that_is_no_record_is_named(tmp_path, line):
    CellLedger(tmp_path).begin([A])
    with (tmp_path / CELLS).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ArtefactError, match=r"cells\.jsonl line 2 is no record of a cell \(.*\); delete that line"):
        CellLedger(tmp_path)


def try_often(folder, start):
    start.wait(20)
    ledger = CellLedger(folder)
    for _ in range(50):
        ledger.begin([A])
        ledger.begin([B])
        ledger.end(B, seconds=0.0)


def test_two_processes_write_whole_lines(tmp_path):
    fork = fork_context()
    start = fork.Event()
    crew = [fork.Process(target=try_often, args=(tmp_path, start)) for _ in range(2)]
    for process in crew:
        process.start()
    start.set()
    for process in crew:
        process.join(30)
        assert process.exitcode == 0
    found = lines(tmp_path)
    assert len(found) == 2 * 50 * 3
    assert len({line["where"] for line in found}) == 2
