"""The lines of metrics.jsonl: strict JSON, read back as they were, and errors that name file and line."""

import json
import math
import pathlib

import pytest

from tcs.errors import ArtefactError
from tcs.training.metrics import MEASURED_COLUMNS, load_metrics, to_line

ROW = {
    "step": 3,
    "phase": 'main, "é"\n',
    "lr": 1e-05,
    "loss": 0.1 + 0.2,
    "big": 1e300,
    "n": -7,
    "none": None,
    "on": True,
}


def test_a_row_comes_back_as_it_was(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(to_line(ROW) + to_line({"step": 4}))
    assert load_metrics(path) == [ROW, {"step": 4}]
    assert [json.loads(line) for line in path.read_text().splitlines()] == [ROW, {"step": 4}]


def test_numbers_that_are_not_finite_are_texts_in_strict_json_and_numbers_again(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "metrics.jsonl"
    line = to_line({"step": 1, "a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.5})

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    assert json.loads(line, parse_constant=refuse) == {"step": 1, "a": "nan", "b": "inf", "c": "-inf", "d": 0.5}
    path.write_bytes(line)
    (row,) = load_metrics(path)
    assert math.isnan(row["a"])
    assert (row["b"], row["c"], row["d"]) == (math.inf, -math.inf, 0.5)


def test_columns_that_the_machine_decides_can_be_left_out(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(to_line({"step": 1, "loss": 2.0} | dict.fromkeys(MEASURED_COLUMNS, 3.0)))
    assert load_metrics(path, measured=False) == [{"step": 1, "loss": 2.0}]


@pytest.mark.parametrize("cut", range(1, 24))
def test_a_last_line_that_was_cut_short_is_left_out(tmp_path: pathlib.Path, cut: int) -> None:
    path, last = tmp_path / "metrics.jsonl", b'{"step": 20, "loss": 1.25}\n'
    path.write_bytes(b'{"step": 10}\n' + last[:cut])
    assert load_metrics(path) == [{"step": 10}]


def test_a_last_line_that_lacks_only_its_end_is_a_row(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 10}\n{"step": 20}')
    assert load_metrics(path) == [{"step": 10}, {"step": 20}]


@pytest.mark.parametrize(
    "wrong",
    [b"", b"garbage", b'{"step": 20', b"[1]", b"{}", b'{"step": 1.5}', b'{"step": true}', b'{"step": 1, "a": NaN}'],
)
def test_a_line_that_is_no_row_is_named(tmp_path: pathlib.Path, wrong: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 10}\n' + wrong + b'\n{"step": 30}\n')
    with pytest.raises(
        ArtefactError, match=r"metrics .*metrics\.jsonl, line 2 is no row .* Delete that line\.$"
    ) as error:
        load_metrics(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", [b"\xff\xfe", b"[" * 100_000, b"\0" * 50])
def test_bytes_that_nobody_wrote_as_text_are_named(tmp_path: pathlib.Path, wrong: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(wrong + b"\n")
    with pytest.raises(ArtefactError, match=r"metrics\.jsonl, line 1 is no row"):
        load_metrics(path)


def test_a_folder_without_metrics_is_asked_about(tmp_path: pathlib.Path) -> None:
    with pytest.raises(
        ArtefactError, match=r"metrics\.jsonl cannot be read \(No such file or directory\); is .* a run\?"
    ):
        load_metrics(tmp_path / "metrics.jsonl")


@pytest.mark.parametrize("row", [{"loss": 1.0}, {"step": 1, "loss": [1.0]}, {"step": "1"}])
def test_rows_are_plain_values_with_a_step(row: dict[str, object]) -> None:
    with pytest.raises(AssertionError, match=r"a row needs a whole number as step|loss is a list; log plain values"):
        to_line(row)  # type: ignore[arg-type]
