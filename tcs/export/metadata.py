"""What travels inside every export: one JSON text, from which a student can be used and traced without its run.

A folder holds it as `tcs.json` and in the metadata of its safetensors file, an ONNX file under the key `tcs` of its metadata, a
`torch.export` file as the extra file `tcs.json`. docs/how-to/export.md describes its fields; a change of their meaning raises FORMAT.
"""

import json
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import timm
from timm.models import get_model_args

import cache
from tcs.config.pixels import student_rules_in
from tcs.inference.card import CROP, FILE, FORMAT, INTERPOLATION, KEY
from tcs.inference.runs import FinishedStudent
from tcs.methods.named import name_of
from tcs.ordinary import read_ordinary, require_ordinary
from tcs.plain_files import FOLDED
from tcs.runtime import environment

MADE_WITH = "made_with"  # of `run`: provenance, no reason to call an export another one


def describe(student: FinishedStudent, teacher: Mapping[str, Any], preprocess_in_graph: bool) -> dict[str, Any]:
    """The metadata of one student; `teacher` is what is known of the one it learned from."""
    record, details = student.record, student.record["student"]
    architecture, kwargs = reconstruction(student)
    return {
        "format": FORMAT,
        "architecture": architecture,
        "kwargs": kwargs,
        "classes": [str(name) for name in record["classes"]],
        "transform": {
            "img_size": details["image_size"],
            "mean": list(details["mean"]),
            "std": list(details["std"]),
            **student_rules_in(details, str(student.folder)).entry,
            "interpolation": INTERPOLATION,
            "crop": CROP,
        },
        "preprocess_in_graph": preprocess_in_graph,
        "temperature": (record.get("calibration") or {}).get("temperature"),
        "teacher": dict(teacher),
        "run": _run_facts(student),
    }


def reconstruction(student: FinishedStudent) -> tuple[str, dict[str, Any]]:
    """timm's name and arguments that build the student with no network: those of the run, or of the Hub's model behind its name."""
    details = student.record["student"]
    if ":" not in details["name"]:
        return details["name"], dict(details["kwargs"])
    kwargs = {name: value for name, value in get_model_args(student.model).items() if name != "num_classes"}
    return str(student.model.pretrained_cfg["architecture"]), kwargs  # type: ignore[index]


def _run_facts(student: FinishedStudent) -> dict[str, Any]:
    """Where a student comes from: identities and digests, and no path, as exports are published."""
    record = student.record
    identity, recipe, rows = record["identity"], record.get("recipe", {}), record.get("rows", {})
    made_with = environment()["versions"] | {"timm": timm.__version__}
    return {
        "model": identity["model"],
        "method": record["config"].get("method") or name_of(record["method"]),
        "loss": record["method"].get("loss"),
        "shots": identity.get("shots"),
        "labelled_rows": rows.get("labelled"),
        "rows": rows.get("all"),
        "steps": recipe.get("steps"),
        "seed": recipe.get("seed"),
        "pretrained": bool(recipe.get("pretrained")),
        "fingerprint": cache.digest_of_json(dict(identity)),
        "weights": cache.digest_of_bytes(read_ordinary(student.folder / FOLDED)),
        "store_identity": identity.get("store_identity"),
        "targets_identity": identity.get("targets_identity"),
        "split_digest": identity.get("split_digest"),
        MADE_WITH: made_with,
    }


def to_text(metadata: Mapping[str, Any]) -> str:
    """The metadata as it is stored: UTF-8, names as they are written."""
    return json.dumps(metadata, ensure_ascii=False, indent=1)


def read_metadata(path: pathlib.Path) -> dict[str, Any] | None:
    """The metadata of an export; None where `path` is none of ours."""
    try:
        text = _stored_text(path)
        found = None if text is None else json.loads(text)
    except (OSError, ValueError, zipfile.BadZipFile, KeyError):
        return None
    return found if isinstance(found, dict) and "format" in found and "architecture" in found else None


def _stored_text(path: pathlib.Path) -> str | bytes | None:
    if path.is_dir():
        return read_ordinary(path / FILE)
    require_ordinary(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith(f"extra/{FILE}")]
            return archive.read(name)
    import onnx
    from google.protobuf.message import DecodeError

    try:
        properties = onnx.load(path, load_external_data=False).metadata_props
    except DecodeError:
        return None
    return next((item.value for item in properties if item.key == KEY), None)


def same_export(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether two exports are of one student, made the same way, whatever release wrote them."""
    return _lasting(found) == _lasting(wanted)


def _lasting(metadata: Mapping[str, Any]) -> dict[str, Any]:
    plain = json.loads(to_text(metadata))
    run = plain.get("run")
    plain["run"] = {name: value for name, value in run.items() if name != MADE_WITH} if isinstance(run, dict) else run
    return dict(plain)
