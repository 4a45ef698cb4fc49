"""Exports that are folders: for timm with a script of a few lines, and for timm and the Hub by name."""

import json
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import timm.models
from safetensors import SafetensorError

from tcs.checkpoint import load_weights
from tcs.config.pixels import student_rules_in
from tcs.config.plain import with_tuples
from tcs.errors import ModelError, first_line
from tcs.export.metadata import reconstruction, to_text
from tcs.export.opening_lines import IMPORTS, open_image_lines
from tcs.inference.card import FILE, INTERPOLATION, KEY
from tcs.inference.runs import FinishedStudent
from tcs.plain_files import FOLDED
from tcs.students.zoo.cifar import STUDENTS

WEIGHTS, SCRIPT, CONFIG, CARD = "model.safetensors", "load.py", "config.json", "README.md"

# Of timm's entry for the architecture: they are about weights that are not in the folder.
OF_OTHER_WEIGHTS = (
    "tag",
    "license",
    "origin_url",
    "paper_ids",
    "paper_name",
    "notes",
    "custom_load",
    "classifier_offset",
)


def timm_folder(student: FinishedStudent, metadata: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of `--to timm`: weights, `load.py`, `tcs.json`."""
    return {
        WEIGHTS: weights_bytes(student, metadata),
        SCRIPT: load_script(metadata).encode(),
        FILE: to_text(metadata).encode(),
    }


def hf_folder(student: FinishedStudent, metadata: Mapping[str, Any], card: str) -> dict[str, bytes]:
    """The files of `--to hf`: weights, `config.json` as timm writes it, the model card, `tcs.json`."""
    return {
        WEIGHTS: weights_bytes(student, metadata),
        CONFIG: (json.dumps(hub_config(student, metadata), ensure_ascii=False, indent=2) + "\n").encode(),
        CARD: card.encode(),
        FILE: to_text(metadata).encode(),
    }


def weights_bytes(student: FinishedStudent, metadata: Mapping[str, Any]) -> bytes:
    """The folded weights as they are, with the metadata beside them."""
    state = {name: value.contiguous() for name, value in load_weights(student.folder / FOLDED).items()}
    return bytes(safetensors.torch.save(state, {"format": "pt", KEY: to_text(metadata)}))


def data_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The transform in timm's words: its evaluation transform then makes the squares that the student was trained on."""
    transform = metadata["transform"]
    return {
        "input_size": (3, transform["img_size"], transform["img_size"]),
        "interpolation": INTERPOLATION,
        "mean": tuple(transform["mean"]),
        "std": tuple(transform["std"]),
        "crop_pct": 1.0,
        "crop_mode": "center",
    }


def load_script(metadata: Mapping[str, Any]) -> str:
    """A Python script that leaves `model`, `open_image`, `transform` and `classes` behind."""
    arguments = {"num_classes": len(metadata["classes"]), **with_tuples(metadata["kwargs"])}
    given = "".join(f", {name}={value!r}" for name, value in arguments.items())
    transform = "".join(f"    {name}={value!r},\n" for name, value in data_config(metadata).items())
    ours = "import tcs.students.zoo  # makes the name known to timm\n" if metadata["architecture"] in STUDENTS else ""
    return (
        '"""The student, loaded by timm: runpy.run_path("load.py")["model"], or these lines in a program of yours."""\n\n'
        f"import pathlib\n\nimport timm\n{IMPORTS}from timm.data import create_transform\n{ours}\n"
        f'weights = pathlib.Path(__file__).with_name("{WEIGHTS}")\n'
        f"model = timm.create_model({metadata['architecture']!r}, checkpoint_path=str(weights){given}).eval()\n"
        f"transform = create_transform(\n{transform})\n"
        f"classes = {tuple(metadata['classes'])!r}\n\n\n"
        f"{open_image_lines(student_rules_in(metadata['transform'], SCRIPT), metadata['transform']['img_size'])}"
    )


def hub_config(student: FinishedStudent, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """`config.json`, from which timm builds and preprocesses; written by timm, without what it says of weights of its own."""
    _, kwargs = reconstruction(student)
    classes = list(metadata["classes"])
    with tempfile.TemporaryDirectory(prefix="tcs-export-") as folder:
        try:
            timm.models.save_for_hf(
                student.model,
                folder,
                model_config={"label_names": classes} if classes else None,
                model_args=kwargs,
                data_config=data_config(metadata),
                safe_serialization=True,
            )
        except (TypeError, ValueError, SafetensorError) as error:  # an argument that JSON cannot hold, for one
            raise ModelError(
                f"student {student.folder} cannot be written as a Hub folder ({first_line(error)}); use --to timm."
            ) from error
        config: dict[str, Any] = json.loads((pathlib.Path(folder) / CONFIG).read_text())
    for name in OF_OTHER_WEIGHTS:
        config["pretrained_cfg"].pop(name, None)
    return config
