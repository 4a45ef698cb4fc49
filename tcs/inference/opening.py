"""MODEL on the command line, whatever it is: a run, a student of it, an exported folder (or a folder of those), an ONNX file."""

import functools
import pathlib
from collections.abc import Callable, Sequence

import torch

from tcs.checkpoint import CONFIG
from tcs.errors import ArtefactError, did_you_mean, listed
from tcs.images.folder import is_image
from tcs.inference.exported import is_exported, open_exported
from tcs.inference.model import UsableModel, square_pixels
from tcs.inference.network import TorchNetwork
from tcs.inference.onnx_file import SUFFIX, open_onnx
from tcs.inference.runs import card_of, find_students, load_student
from tcs.students.backbone import parse_student

KINDS = "MODEL is a run of tcs train, RUN/<student>, a folder that tcs export wrote, or an .onnx file"

Opener = Callable[[torch.device], UsableModel]


def find_models(given: str, names: Sequence[str] = ()) -> list[Opener]:
    """What opens each student of the MODEL `given`, all or those of `names`; none is loaded yet. ArtefactError where there is none."""
    path = pathlib.Path(given)
    if not path.exists():
        raise ArtefactError(f"'{given}' does not exist; {KINDS}.")
    if path.is_file():
        return [_of_file(path, names)]
    if (path / CONFIG).is_file():
        _refuse_names(path, names)
        return [_of_folder(path)]
    inside = sorted(entry.name for entry in path.iterdir() if entry.suffix == SUFFIX)
    if inside and not any(path.glob(f"*/{CONFIG}")):
        return [functools.partial(_onnx, path / name) for name in _chosen(path, inside, names)]
    if not any(path.glob(f"*/{CONFIG}")):
        what = "holds images and no student" if _holds_images(path) else "holds no student"
        raise ArtefactError(f"{path} {what}; {KINDS}.")
    return [_of_folder(folder) for folder in find_students(path, names)]


def open_model(given: str, name: str | None, device: torch.device) -> UsableModel:
    """The one student of MODEL, or that called `name`. ArtefactError where there are several to choose from."""
    path = pathlib.Path(given)
    found = find_models(given, () if name is None else (name,))
    if len(found) > 1:
        students = sorted(entry.parent.name for entry in path.glob(f"*/{CONFIG}")) or sorted(
            entry.stem for entry in path.glob(f"*{SUFFIX}")
        )
        raise ArtefactError(
            f"{given} has {len(found)} students ({listed(students, 5)}); name one of them with --model."
        )
    return found[0](device)


def _of_file(path: pathlib.Path, names: Sequence[str]) -> Opener:
    if path.suffix.lower() != SUFFIX:
        hint = f" Did you mean its folder {path.parent}?" if path.suffix == ".safetensors" else ""
        raise ArtefactError(f"{path} is a file of another kind; {KINDS}.{hint}")
    _refuse_names(path, names)
    return functools.partial(_onnx, path)


def _of_folder(folder: pathlib.Path) -> Opener:
    return functools.partial(open_exported if is_exported(folder) else open_student, folder)


def _onnx(path: pathlib.Path, device: torch.device) -> UsableModel:
    return open_onnx(path, device, torch.get_num_threads())


def open_student(folder: pathlib.Path, device: torch.device) -> UsableModel:
    """The student of a run in `folder`. Errors as of `load_student`."""
    student = load_student(folder)
    card = card_of(student)
    return UsableModel(
        name=folder.name,
        path=folder,
        card=card,
        network=TorchNetwork(student.model, card.mean, card.std, device),
        pixels=square_pixels(card.size),
        parameters=sum(parameter.numel() for parameter in student.model.parameters()),
        student=student,
    )


def _refuse_names(path: pathlib.Path, names: Sequence[str]) -> None:
    """ArtefactError for a --model that is not the one student at `path`."""
    for name in names:
        if parse_student(name).folder not in (path.name, path.stem):
            raise ArtefactError(f"{path} is one student, and --model names '{name}'; leave --model out.")


def _chosen(folder: pathlib.Path, files: Sequence[str], names: Sequence[str]) -> list[str]:
    stems = {pathlib.PurePath(name).stem: name for name in files}
    wanted = [parse_student(name).folder for name in names]
    for name in wanted:
        if name not in stems:
            raise ArtefactError(f"{folder} has no student '{name}'; it has {listed(stems)}.{did_you_mean(name, stems)}")
    return [file for stem, file in stems.items() if not wanted or stem in wanted]


def _holds_images(folder: pathlib.Path) -> bool:
    entries = list(folder.iterdir())[:1000]
    nested = [inner for entry in entries[:20] if entry.is_dir() for inner in list(entry.iterdir())[:20]]
    return any(is_image(entry.name) for entry in (*entries, *nested))
