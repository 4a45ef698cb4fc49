"""What a running grid says: the board's lines, in a pipe once a minute, on a terminal all the time; and the lines of a piped training."""

import contextlib
import re
import threading

import pytest
from grids import CIFAR, STUDENT, make_stores

from tcs.config.train import TrainConfig
from tcs.grid.picture import Board, Kept, OwnPlace, shown_on_stderr, steps_of
from tcs.training.progress import LineBar, show_steps
from tcs.training.train import train


class Clock:
    """Seconds that stand still until they are told to go on."""

    def __init__(self):
        self.seconds = 100.0

    def __call__(self):
        return self.seconds


def wait_for(condition):
    for _ in range(2000):
        if condition():
            return
        threading.Event().wait(0.005)
    pytest.fail("waited in vain")


def test_the_board_has_a_line_for_the_grid_and_one_for_each_place():
    clock = Clock()
    board = Board(total=12, to_do=10, clock=clock)
    assert board.lines() == ["grid: 2 of 12 cells done, 0 failed, 0 running, -:--:-- left"]
    board.begin("job 1", 2, "a and 1 more tcs 4 0 all")
    board.begin("job 2", 1, "teacher ibm2 4 0 none")
    board.steps("job 1", 0, 100, 64, "")
    clock.seconds += 10
    board.steps("job 1", 50, 100, 64, "loss 1.250")
    assert (
        board.lines()
        == [
            "grid: 2 of 12 cells done, 0 failed, 3 running, 320 images/s, 0:01:30 left",  # half of 2 cells in 10 s, 9 are left
            "  job 1: a and 1 more tcs 4 0 all: step 50 of 100, 0:00:10 left, loss 1.250",
            "  job 2: teacher ibm2 4 0 none: 0:00:10 so far",
        ]
    )


def test_lines_of_places_go_when_their_cells_are_over():
    clock = Clock()
    board = Board(total=4, to_do=4, clock=clock)
    board.begin("", 2, "a and 1 more")
    clock.seconds += 5
    assert board.end("", "1", "a: top1 50.00", "done") == "[1/4] a: top1 50.00"
    assert board.lines()[0] == "grid: 1 of 4 cells done, 0 failed, 1 running, 0:00:15 left"
    assert board.end("", "2", "b: failed, and is tried again", "again") == "b: failed, and is tried again"
    assert board.lines() == ["grid: 1 of 4 cells done, 0 failed, 0 running, 0:00:15 left"]
    board.begin("", 1, "b")
    assert board.end("", "2", "b: FAILED: no", "failed") == "[2/4] b: FAILED: no"
    assert board.lines()[0].startswith("grid: 1 of 4 cells done, 1 failed, 0 running")


def test_a_cell_counts_once_whoever_says_that_it_is_over():
    board = Board(total=4, to_do=4)
    board.begin("job 1", 1, "a")
    board.end("job 1", "1", "a: FAILED: no", "failed")
    assert board.end("job 2", "1", "", "passed") == ""
    assert board.end("job 2", "2", "", "passed") == ""
    assert board.lines()[0].startswith("grid: 1 of 4 cells done, 1 failed, 0 running")


def test_a_process_that_ended_has_no_line():
    board = Board(total=4, to_do=4)
    board.begin("job 1", 1, "a")
    board.lost("job 1")
    board.steps("job 1", 1, 2, 3, "too late")
    assert board.lines() == ["grid: 0 of 4 cells done, 0 failed, 0 running, -:--:-- left"]


def test_steps_of_a_training_are_handed_on():
    told = []

    class Shown(Kept):
        def steps(self, done, of, images, note):
            told.append((done, of, images, note))

    with steps_of(Shown())(100, "resnet18", 64) as bar:
        bar.begin_at(40)
        bar.advance(1, "loss 1")
        bar.advance(2, "loss 0.5")
    assert told == [(40, 100, 64, ""), (41, 100, 64, "loss 1"), (43, 100, 64, "loss 0.5")]


def test_in_a_pipe_the_board_is_written_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr("tcs.grid.picture.EVERY_SECONDS", 0.01)
    board, heard = Board(total=1, to_do=1), ""
    with shown_on_stderr(board):
        own = OwnPlace(board)
        own.begin(1, "resnet18 labels 4 0 none")
        own.steps(0, 20, 8, "")
        own.steps(7, 20, 8, "loss 0.700")

        def is_told():
            nonlocal heard
            heard += capsys.readouterr().err
            return "loss 0.700" in heard

        wait_for(is_told)
        own.end("1", "resnet18 labels 4 0 none: top1 50.00", "done")
    assert "grid: 0 of 1 cells done, 0 failed, 1 running" in heard
    assert re.search(r"^  resnet18 labels 4 0 none: step 7 of 20, \d:\d\d:\d\d left, loss 0\.700$", heard, re.MULTILINE)
    assert "[1/1] resnet18 labels 4 0 none: top1 50.00\n" in heard + capsys.readouterr().err
    assert threading.active_count() == len(threading.enumerate())
    assert "picture" not in {thread.name for thread in threading.enumerate()}


def test_in_a_pipe_a_short_grid_says_nothing_of_the_kind(capsys):
    with shown_on_stderr(Board(total=1, to_do=1)):
        pass
    assert capsys.readouterr().err == ""


def test_on_a_terminal_lines_change_and_finished_ones_stay_as_one(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    board = Board(total=2, to_do=2)
    with shown_on_stderr(board):
        own = OwnPlace(board)
        own.begin(1, "resnet18 labels 4 0 none")
        own.end("1", "resnet18 labels 4 0 none: top1 50.00", "done")
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert shown.count("[1/2] resnet18 labels 4 0 none: top1 50.00") == 1
    assert "grid: 1 of 2 cells done" in shown


def test_other_ranks_show_nothing(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with shown_on_stderr(Board(total=1, to_do=1)):
        pass
    assert capsys.readouterr().err == ""


def test_a_piped_training_says_how_far_it_is_after_5_s_and_then_every_10(capsys):
    clock = Clock()
    bar = LineBar(400, "resnet18", clock)
    bar.begin_at(0)
    for _ in range(40):
        clock.seconds += 1
        bar.advance(10, "loss 1.500, 640 images/s")
    told = capsys.readouterr().err.splitlines()
    assert told[:2] == [
        "resnet18: step 50 of 400, 10 steps/s, 0:00:35 left, loss 1.500, 640 images/s",
        "resnet18: step 150 of 400, 10 steps/s, 0:00:25 left, loss 1.500, 640 images/s",
    ]
    assert [line.split(",")[0] for line in told] == [f"resnet18: step {step} of 400" for step in (50, 150, 250, 350)]


def test_a_resumed_training_counts_on(capsys):
    clock = Clock()
    bar = LineBar(1000, "resnet18", clock)
    bar.begin_at(900)
    clock.seconds += 5
    bar.advance(50)
    assert capsys.readouterr().err == "resnet18: step 950 of 1,000, 10 steps/s, 0:00:05 left\n"


def test_the_lines_of_a_training_have_step_loss_speed_and_the_time_left(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tcs.training.progress.FIRST_SECONDS", 0.0)
    monkeypatch.setattr("tcs.training.progress.EVERY_SECONDS", 0.0)
    make_stores(tmp_path)
    options = {"method": "labels", "shots": 4, "steps": 3, "batch_size": 16, "img_size": 16, "models": (STUDENT, CIFAR)}
    train(TrainConfig.from_options({"store": str(tmp_path / "train.store"), "out": str(tmp_path / "run"), **options}))
    told = re.findall(
        r"^resnet18 and 1 more: step (\d) of 3, [\d,.]+ steps/\w+, \d:\d\d:\d\d left, "
        r"loss \d+\.\d{3} and 1 more, [\d,]+ images/s, data wait \d+ %$",
        capsys.readouterr().err,
        re.MULTILINE,
    )
    assert told == ["1", "2", "3"]


@pytest.mark.parametrize(("is_terminal", "kind"), [(False, "LineBar"), (True, "_RichBar")])
def test_a_bar_is_drawn_on_a_terminal_alone(monkeypatch, is_terminal, kind):
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal)
    with contextlib.closing(contextlib.ExitStack()) as stack:
        assert type(stack.enter_context(show_steps(3, "resnet18", 8))).__name__ == kind
