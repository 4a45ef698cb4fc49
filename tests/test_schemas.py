"""Files of tcs with a value of another type or size: one line with place, value, rule and remedy, before memory is taken. 4 s."""

import io
import json
import pathlib
import re
import runpy
import shutil
import struct
import warnings
import zipfile

import h5py
import numpy as np
import pytest
import safetensors.numpy
import torch

from tcs.array_files import BROKEN, array_in, arrays_in
from tcs.checkpoint import fitting, load_resume, save_resume
from tcs.coordinates.system import load_coordinates
from tcs.coordinates.targets import open_targets
from tcs.errors import ArtefactError
from tcs.grid.cells import _parsed
from tcs.grid.ledger import _load_ledger
from tcs.inference.card import read_card
from tcs.plain_files import MOST_JSON_BYTES, load_json
from tcs.reporting.probe_page import probe_page
from tcs.schemas.check import broken_rule, load_checked
from tcs.schemas.grids import CellLine, Ledger
from tcs.schemas.runs import FinishedRun, ResumeState

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
BACK = "make it again with tcs"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"seal": 3}, r"Expected `object \| null`, got `int` - at `\$\.seal`, found 3"),
        (
            {"seal": {"primary": ["a"], "rows": 0, "at": "", "digest": ""}},
            r"length >= 2 - at `\$\.seal\.primary`, found \['a'\]",
        ),
        (
            {"datasets": {"a": {"origin": {}, "settings": {}}}},
            r"missing required field `train` - at `\$\.datasets\[\.\.\.\]\.origin`",
        ),
        ({"environment": {"versions": {}, "processor": "x", "cores": -1}}, r">= 0.* - at `\$\.environment\.cores`"),
        ({"later": 1}, None),
    ],
)
def test_a_rule_is_told_with_its_place_and_the_value_there(content, told):
    found = broken_rule(content, Ledger)
    if told is None:
        assert found is None
    else:
        assert found is not None
        assert re.search(told, found), found


def test_control_characters_and_depth_of_a_file_do_not_reach_the_message():
    deep = []
    for _ in range(900):
        deep = [deep]
    for value, shown in (("a\x1b[31m\nb", r"a\x1b[31m\nb"), ("x" * 900, "x" * 40)):
        told = broken_rule({"step": value}, ResumeState)
        assert told is not None
        assert told.endswith(f", found {shown}")
    assert broken_rule({"identity": deep}, FinishedRun) is not None


def test_what_releases_wrote_is_as_they_say():
    assert load_checked(FIXTURES / "grid_v1" / "ledger.json", Ledger, "x")
    for path in (FIXTURES / "run_v1").glob("*/*/config.json"):
        record = json.loads(path.read_text())
        assert (broken_rule(record, FinishedRun) is None) is (record["state"] == "finished")
    (stopped,) = (FIXTURES / "run_v1" / "stopped").glob("*/resume.pt")
    assert broken_rule(load_resume(stopped), ResumeState) is None


def test_a_file_that_claims_more_than_any_record_has_is_not_read(tmp_path):
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(
        ArtefactError, match=rf"cannot be read \(.*it has 1,099,511,627,776 bytes.*{MOST_JSON_BYTES:,}.*\); train again"
    ):
        load_json(tmp_path / "config.json")


def facts_of(path, **changes):
    """The coordinates of the fixture with another header."""
    with safetensors.safe_open(str(FIXTURES / "coordinates_v1.safetensors"), framework="numpy") as file:
        metadata, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    facts = json.loads(metadata["facts"])
    facts |= {name: value for name, value in changes.items() if name in facts}
    facts["selection"] |= {name: value for name, value in changes.items() if name not in facts}
    path.write_bytes(safetensors.numpy.save(arrays, metadata | {"facts": json.dumps(facts)}))
    return path


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, None),
        ({"power": -1}, r"damaged header \(Expected `float` >= 0.0 - at `\$\.power`, found -1\); make it again with tcs fit"),
        ({"rows_fitted": "30"}, r"Expected `int`, got `str` - at `\$\.rows_fitted`, found 30"),
        ({"selection": {"active": 3}}, r"Expected `array`, got `int` - at `\$\.selection\.active`, found 3"),
        ({"active": [0, 10]}, r"selects coordinate 10 of 10; make it again with tcs fit"),
        ({"config": []}, r"Expected `object`, got `array` - at `\$\.config`"),
    ],
)  # fmt: skip
def test_a_header_of_coordinates(tmp_path, changes, told):
    path = facts_of(tmp_path / "c.safetensors", **changes)
    if told is None:
        assert load_coordinates(path).selection.active_k.max() < 10
        return
    with pytest.raises(ArtefactError, match=told):
        load_coordinates(path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"system": {"method": 3}}, r"has a damaged header \(.* - at `\$\.system.*\); make it again with tcs targets"),
        ({"provenance": [1]}, r"has a damaged header \(.* - at `\$\.provenance`, found \[1\]\)"),
    ],
)
def test_a_header_of_targets(tmp_path, changes, told):
    shutil.copy(FIXTURES / "targets_v1.h5", tmp_path / "t.h5")
    with h5py.File(tmp_path / "t.h5", "r+") as file:
        facts = json.loads(file["facts"][...].tobytes()) | changes
        del file["facts"]
        file["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    with pytest.raises(ArtefactError, match=told):
        open_targets(tmp_path / "t.h5")


CARD = {
    "format": 1,
    "architecture": "resnet18",
    "kwargs": {},
    "classes": ["a"],
    "transform": {"img_size": 16, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"classes": [1]}, r"Expected `str`, got `int` - at `\$\.classes\[\.\.\.\]`|at `\$\.classes\[0\]`"),
        ({"teacher": "x"}, r"at `\$\.teacher`\), found x; export the student again"),
        ({"transform": CARD["transform"] | {"img_size": 10**6}}, r"`int` <= 8192 - at `\$\.transform\.img_size`\), found 1000000"),
        ({"transform": CARD["transform"] | {"std": [1, -1, 1]}}, r"`float` > 0"),
    ],
)  # fmt: skip
def test_a_card_of_an_export(changes, told):
    path = pathlib.Path("tcs.json")
    assert read_card(json.dumps(CARD), path).size == 16
    with pytest.raises(ArtefactError, match=told):
        read_card(json.dumps(CARD | changes), path)


def test_a_ledger_and_a_line_of_a_cell(tmp_path):
    part = {
        "origin": {"train": "a", "test": "b", "targets": {}, "semantics": 1},
        "settings": {"options": {}, "methods": {"labels": 3}},
    }
    known = part | {"seal": {"primary": None, "rows": 0, "at": "", "digest": ""}}
    (tmp_path / "ledger.json").write_text(json.dumps(known))
    with pytest.raises(
        ArtefactError, match=r"got `int` - at `\$\.settings\.methods\[\.\.\.\]`\); read the rows with tcs"
    ):
        _load_ledger(tmp_path)
    line = {"cell": "c", "state": "done", "attempt": 1, "error": "", "where": "h:1"}
    assert _parsed(json.dumps(line).encode(), "x") == line
    assert broken_rule(line | {"later": 1}, CellLine) is None
    for changes in ({"state": "over"}, {"attempt": -1}, {"seconds": "1"}):
        with pytest.raises(ArtefactError, match="x is no record of a cell"):
            _parsed(json.dumps(line | changes).encode(), "x")


STATE = {"step": 1, "images_seen": 8, "student": {}, "criteria": {}, "optimiser": {}, "scaler": {}, "fingerprint": "f"}


@pytest.mark.parametrize("changes", [{"step": -1}, {"images_seen": 1.5}, {"student": []}, {"averaged": 3}])
def test_a_resume_state_of_other_types_is_told(changes):
    assert broken_rule(STATE, ResumeState) is None
    assert f"at `$.{next(iter(changes))}`" in str(broken_rule(STATE | changes, ResumeState))


@pytest.mark.parametrize(
    "error", [KeyError("student"), RuntimeError("size mismatch"), StopIteration(), IndexError("no")]
)
def test_a_resume_state_that_does_not_fit_is_told(error):
    with (
        pytest.raises(
            ArtefactError,
            match=rf"resume file r\.pt does not fit this student \({type(error).__name__}: .*\); delete it to start this student",
        ),
        fitting(pathlib.Path("r.pt")),
    ):
        raise error


def test_a_resume_file_that_claims_more_than_it_holds_is_not_unpacked(tmp_path):
    path = tmp_path / "resume.pt"
    save_resume(path, {"step": 1, "x": torch.zeros(4)})
    assert load_resume(path)["step"] == 1
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, bytes(1 << 22) if "/data/" in name else data)
    assert path.stat().st_size < 100_000
    with pytest.raises(ArtefactError, match=r"resume\.pt cannot be read; delete it to start this student again"):
        load_resume(path)


def npy(array, shape=None):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue().replace(str(array.shape).encode(), shape.encode()) if shape else buffer.getvalue()


def test_an_array_is_held_against_its_header():
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    np.testing.assert_array_equal(array_in(npy(array)), array)
    assert array_in(npy(np.array("text"))) == "text"
    for data in (npy(array, "(3, 5)"), npy(array)[:-1], npy(array) + b"x", b"", npy(array, "(2**40, 4)")):
        with pytest.raises(BROKEN):
            array_in(data)
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="claims object"):
        array_in(buffer.getvalue())


def test_no_bit_of_a_header_makes_an_error_that_nobody_foresaw():
    whole = npy(np.arange(12, dtype=np.int32).reshape(3, 4))
    told = set()
    for bit in range(8 * 128):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        try:
            with warnings.catch_warnings(action="ignore"):  # of names of types that NumPy reads, but no more likes
                array_in(bytes(data))
        except BROKEN as error:
            told.add(type(error).__name__)
    assert {"ValueError", "TokenError"} <= told


def test_an_archive_of_arrays_is_held_against_its_directory():
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=np.zeros(10**6, np.uint8), b=np.arange(3))
    found = arrays_in(buffer.getvalue())
    assert found["a"].shape == (10**6,)
    np.testing.assert_array_equal(found["b"], np.arange(3))
    # The size of the first part in the archive's directory, after its signature: 2**31 bytes
    data = bytearray(buffer.getvalue())
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = struct.pack("<I", 1 << 31)
    with pytest.raises(BROKEN, match=r"a\.npy claims 2,147,483,648 bytes"):
        arrays_in(bytes(data))


def test_a_probe_without_its_reference_row_is_told(tmp_path):
    row = {
        "method": "pca",
        "components": 4,
        "compression": 2.0,
        "shots": 4,
        "labelled": 8,
        "seed": 0,
        "rows": 9,
        "seen": 0,
        "top1": 50.0,
        "head": "ridge",
        "readout": "avg",
    }
    for rows, told in (
        ([], r"length >= 1 - at `\$\.rows`\), found \[\]; run tcs probe again"),
        ([row | {"top1": 101}], r"<= 100"),
        ([row], r"has no row 'uncompressed', which the others are held against; run tcs probe again with --overwrite"),
    ):
        (tmp_path / "probe.json").write_text(json.dumps({"recipe": {}, "rows": rows, "environment": {}}))
        with pytest.raises(ArtefactError, match=told):
            probe_page(tmp_path)


def test_a_link_to_a_record_is_read(tmp_path):
    (tmp_path / "a.json").write_text("[1]")
    (tmp_path / "b.json").symlink_to("a.json")
    assert load_json(tmp_path / "b.json") == [1]


def test_the_page_of_formats_is_made_of_the_types():
    script = runpy.run_path(str(FIXTURES.parents[1] / "scripts" / "formats_page.py"))
    (written,) = (FIXTURES.parents[1] / "docs").rglob("formats.md")
    assert written.read_text() == script["page"]()
    assert script["schemas"]()["GRID/cells.jsonl"]["$defs"]["CellLine"]["properties"]["attempt"]["minimum"] == 0
    assert "| `student.std` | array (3 entries) of number > 0, ≤ 1e6 | yes |" in script["page"]()
    assert "| `datasets.NAME.origin.train` | string | yes |" in script["page"]()
