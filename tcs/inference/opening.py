"""MODEL on the command line, whatever it is: a run, a student of it, an exported folder (or a folder of those), an ONNX file."""

import functools
import pathlib
from collections.abc import Callable, Sequence

import torch

from tcs.errors import ArtefactError, did_you_mean, either, listed
from tcs.images.formats import is_image
from tcs.inference.exported import is_exported, open_exported
from tcs.inference.model import UsableModel, of_module
from tcs.inference.onnx_file import SUFFIX, open_onnx
from tcs.inference.runs import FinishedStudent, card_of, load_student
from tcs.ordinary import require_ordinary
from tcs.plain_files import CONFIG
from tcs.students.backbone import parse_student

KINDS = "MODEL is a run of tcs train, RUN/<student>, a folder that tcs export wrote, or an .onnx file"
MOST_ENTRIES = 20  # of a folder, and of each folder in it, that are looked at to say what it holds

Opener = Callable[[torch.device], UsableModel]


def find_models(given: str, names: Sequence[str] = (), *, alone: bool = False) -> list[Opener]:
    """What opens each student of the MODEL `given`, all or those of `names`; none is loaded yet. ArtefactError where there is none.

    `alone` says that nothing is decoded beside a student while it runs.
    """
    path = pathlib.Path(given)
    if not path.exists():
        raise ArtefactError(f"'{given}' does not exist; {KINDS}.")
    require_ordinary(path)
    if path.is_file() and not _is_student(path):
        hint = f" Did you mean its folder {path.parent}?" if path.suffix == ".safetensors" else ""
        raise ArtefactError(f"{path} is a file of another kind; {KINDS}.{hint}")
    if _is_student(path):
        _refuse_others(path, names)
        return [_opener(path, alone)]
    found = _students_in(path)
    if not found:
        what = "holds images and no student" if _holds_images(path) else "holds no student"
        inside = [entry for entry in sorted(path.iterdir())[:MOST_ENTRIES] if entry.is_dir() and _students_in(entry)]
        hint = (
            f" Did you mean {either([str(entry) for entry in inside])}?" if inside else ""
        )  # as of tcs distill's WORK
        raise ArtefactError(f"{path} {what}; {KINDS}.{hint}")
    return [_opener(place, alone) for place in _chosen(path, found, names)]


def open_model(given: str, name: str | None, device: torch.device) -> UsableModel:
    """The one student of MODEL, or that called `name`. ArtefactError where there are several to choose from."""
    openers = find_models(given, () if name is None else (name,))
    if len(openers) > 1:
        names = listed((_name_of(path) for path in _students_in(pathlib.Path(given))), 5)
        raise ArtefactError(f"{given} has {len(openers)} students ({names}); name one of them with --model.")
    return openers[0](device)


def open_student(folder: pathlib.Path, device: torch.device) -> UsableModel:
    """The student of a run in `folder`. Errors as of `load_student`."""
    return usable(load_student(folder), device)


def usable(student: FinishedStudent, device: torch.device) -> UsableModel:
    """A student of a run, on `device`."""
    return of_module(student.folder.name, student.folder, student.model, card_of(student), device, student=student)


def _opener(path: pathlib.Path, alone: bool) -> Opener:
    if path.is_file():
        return lambda device: open_onnx(path, device, torch.get_num_threads(), alone=alone)
    return functools.partial(open_exported if is_exported(path) else open_student, path)


def _is_student(path: pathlib.Path) -> bool:
    if path.is_file():
        return path.suffix.lower() == SUFFIX
    return (path / CONFIG).is_file() or is_exported(path)


def _students_in(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folders and .onnx files of a run, or of what was exported of one."""
    return sorted(entry for entry in folder.iterdir() if _is_student(entry))


def _name_of(path: pathlib.Path) -> str:
    return path.stem if path.is_file() else path.name


def _refuse_others(path: pathlib.Path, names: Sequence[str]) -> None:
    """ArtefactError for a --model that is not the one student at `path`."""
    for name in names:
        if parse_student(name).folder != _name_of(path):
            raise ArtefactError(f"{path} is one student, and --model names '{name}'; leave --model out.")


def _chosen(folder: pathlib.Path, found: Sequence[pathlib.Path], names: Sequence[str]) -> list[pathlib.Path]:
    """All of `found`, or those called `names`, in the order of `found`."""
    by_name = {_name_of(path): path for path in found}
    wanted = [parse_student(name).folder for name in names]
    for name in wanted:
        if name not in by_name:
            hint = did_you_mean(name, by_name)
            raise ArtefactError(f"run {folder} has no student '{name}'; it has {', '.join(by_name)}.{hint}")
    return [path for name, path in by_name.items() if not wanted or name in wanted]


def _holds_images(folder: pathlib.Path) -> bool:
    entries = list(folder.iterdir())[:MOST_ENTRIES]
    inside = [inner for entry in entries if entry.is_dir() for inner in list(entry.iterdir())[:MOST_ENTRIES]]
    return any(is_image(entry.name) for entry in (*entries, *inside))
