"""Several processes at one grid: every cell is handed to one of them, and those of a killed one to another."""

import os
import signal
import time

import pytest
from forks import fork_context

from tcs.grid.claims import claimed_by_others, claimed_groups
from tcs.grid.method_rows import MethodRow
from tcs.grid.recipe import Cell

METHOD = MethodRow(label="labels", options={}, uses_pool=False)
CELLS = [
    Cell(model="m", method=METHOD, shots=shots, seed=seed, unlabelled="none") for shots in (1, 4) for seed in range(8)
]
ALONE = [[cell] for cell in CELLS]


def is_done(folder):
    return lambda cell: (folder / "-".join(cell.key)).exists()


def train_all(folder, start, finish_first):
    """What a process of the grid does, a file for each cell, with who trained it; the first cell takes until `finish_first`."""
    start.wait(20)
    for number, (cell,) in enumerate(claimed_groups(folder, ALONE, is_done(folder))):
        with (folder / "trained").open("a") as log:
            log.write(f"{os.getpid()} {'-'.join(cell.key)}\n")
        if number == 0:
            finish_first.wait(20)
        (folder / "-".join(cell.key)).touch()


def trained(folder):
    return [line.split() for line in (folder / "trained").read_text().splitlines()]


def wait_for(condition):
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    pytest.fail("waited in vain")


def test_two_processes_at_one_folder_train_every_cell_once(tmp_path):
    fork = fork_context()
    start, finish_first = fork.Event(), fork.Barrier(2)  # each is at its first cell when the other is
    crew = [fork.Process(target=train_all, args=(tmp_path, start, finish_first)) for _ in range(2)]
    for process in crew:
        process.start()
    start.set()
    for process in crew:
        process.join(30)
        assert process.exitcode == 0
    assert sorted(key for _, key in trained(tmp_path)) == sorted("-".join(cell.key) for cell in CELLS)
    assert {int(pid) for pid, _ in trained(tmp_path)} == {process.pid for process in crew}


def test_the_cell_of_a_killed_process_is_trained_by_the_one_that_waits(tmp_path, capsys):
    fork = fork_context()
    start, never = fork.Event(), fork.Event()
    start.set()
    victim = fork.Process(target=train_all, args=(tmp_path, start, never))
    victim.start()
    wait_for(lambda: (tmp_path / "trained").exists() and trained(tmp_path))
    assert claimed_by_others(tmp_path, CELLS) == CELLS[:1]
    assert claimed_by_others(tmp_path / "nowhere", CELLS) == []
    order = []
    for (cell,) in claimed_groups(tmp_path, ALONE, is_done(tmp_path)):
        order.append(cell)
        (tmp_path / "-".join(cell.key)).touch()
        if len(order) == len(CELLS) - 1:
            os.kill(victim.pid, signal.SIGKILL)
            victim.join(30)
    assert order == [*CELLS[1:], CELLS[0]]
    assert claimed_by_others(tmp_path, CELLS) == []
    assert "Another process is at 1 of the cells" in capsys.readouterr().err


def test_a_cell_that_another_process_finished_is_passed_and_counted(tmp_path):
    (tmp_path / "-".join(CELLS[3].key)).touch()
    passed = []
    left = list(claimed_groups(tmp_path, ALONE[:5], is_done(tmp_path), passed.append))
    assert left == [[cell] for cell in (*CELLS[:3], CELLS[4])]
    assert passed == [CELLS[3]]


def test_a_group_is_held_as_a_whole_and_handed_out_without_what_is_done(tmp_path):
    (tmp_path / "-".join(CELLS[1].key)).touch()
    fork = fork_context()
    start, never = fork.Event(), fork.Event()
    start.set()
    victim = fork.Process(target=train_all, args=(tmp_path, start, never))  # holds CELLS[0]
    victim.start()
    wait_for(lambda: (tmp_path / "trained").exists() and trained(tmp_path))
    groups = claimed_groups(tmp_path, [CELLS[:3], CELLS[3:5]], is_done(tmp_path))
    assert next(groups) == CELLS[3:5]  # CELLS[2] is free, and goes with CELLS[0]
    for cell in CELLS[3:5]:
        (tmp_path / "-".join(cell.key)).touch()
    os.kill(victim.pid, signal.SIGKILL)
    victim.join(30)
    assert next(groups) == [CELLS[0], CELLS[2]]
    groups.close()
