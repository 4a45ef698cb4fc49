"""`tcs.export_students`, as it is called. Written by scripts/make_stages.py; not to be edited."""

from typing import Any, overload

from tcs.config.export import ExportConfig
from tcs.config.plain import AnyPath, Several
from tcs.config.stage import takes
from tcs.export.stage import export_students as run

# fmt: off

@overload
def export_students(
    config: ExportConfig, /
) -> list[dict[str, Any]]: ...
@overload
def export_students(
    run: AnyPath, *, to: str, out: AnyPath, models: Several[str] = (), store: AnyPath | None = None,
    data: AnyPath | None = None, test: AnyPath | None = None, with_preprocess: bool = False,
    int8: AnyPath | None = None, max_drop: float = 1.0, overwrite: bool = False
) -> list[dict[str, Any]]: ...
@takes(run, ExportConfig)
def export_students(*given: Any, **named: Any) -> Any:
    """Export and prove the students; returns one row each: `model`, `format`, `path`, `max_difference` (None where the export was
    there already), and with `int8` its file and what it loses.

    ConfigError for options that do not fit and for packages that are missing, ArtefactError for a run that is not finished, an
    output of something else, an export that does not give what the run gives, and for an int8 file that loses more than `max_drop`
    points (it is kept under another name); ModelError for a student that cannot be exported so.

    Takes the options below, which are those of tcs.ExportConfig, or one such configuration as its only argument. A path
    is a text or any os.PathLike, and a list may stand for a tuple. TypeError for a name that is no option, ConfigError
    for a value that makes no sense.

    Args:
        run (path): A run of `tcs.train`, or the folder of one of its students.
        to (str): What to write: docs/how-to/export.md compares them: timm, hf, onnx or torch-export.
        out (path): A folder (timm, hf) or a file (.onnx, .pt2); of several students, a folder with one of them each.
        models (tuple of str): Only this student of the run. Default: ().
        store (path or None): Compare on images of this store. Default: the one the run was trained on.
        data (path or None): The images, for a store that holds none. Default: None.
        test (path or None): hf: score this store and put top-1 with its interval on the card. Default: None.
        with_preprocess (bool): onnx, torch-export: the graph takes uint8 RGB pixels and normalises them. Default:
            False.
        int8 (path or None): onnx: also an 8-bit file, calibrated on one part of these images (a store, a folder ...)
            and measured on the other. Default: None.
        max_drop (float): Points of top-1 (of agreement, without labels) that the 8-bit file may lose. Default: 1.0.
        overwrite (bool): Replace exports of other students at `out`. Default: False.
    """
