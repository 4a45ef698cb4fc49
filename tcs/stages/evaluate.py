"""`tcs.evaluate`, as it is called. Written by scripts/make_stages.py; not to be edited."""

from typing import Any, overload

from tcs.config.evaluate import EvalConfig
from tcs.config.plain import AnyPath, Several
from tcs.config.stage import takes
from tcs.evaluation.students import evaluate as run

# fmt: off

@overload
def evaluate(
    config: EvalConfig, /
) -> list[dict[str, Any]]: ...
@overload
def evaluate(
    run: AnyPath, store: AnyPath, *, probe: AnyPath | None = None, models: Several[str] = (),
    data: AnyPath | None = None, labels: str = "auto", split: str | None = None, data_dir: AnyPath | None = None,
    input_key: str | None = None, target_key: str | None = None, temperature: float | None = None,
    batch_size: int = 256, workers: int | None = None, device: str = "cpu", out: AnyPath | None = None,
    errors: AnyPath | None = None, overwrite: bool = False
) -> list[dict[str, Any]]: ...
@takes(run, EvalConfig)
def evaluate(*given: Any, **named: Any) -> Any:
    """One row of metrics per student, a mapping: accuracies in percent with 4 decimals, with the ends of 95 % intervals.

    `model`, `method`, `store` and how many `rows` were scored; `top1` and `top5` (Wilson 1927), `balanced` (mean recall of the classes
    that have images; bootstrap), `ece` at its temperature (Guo et al. 2017) and the `best_temperature` for these images (None without
    probabilities); `classes`, a mapping each, and `confusion`, counts (C, C), the true class first; `seen` images, by content hash,
    None where only the student's run could tell, and `broken` ones left out; `param_count` in millions, `img_size` in pixels.

    `store` is a store, or images as they lie. With `probe`, a ridge probe of each student's frozen features, fitted
    on the labelled rows of that store, stands for its classifier. `out` and `errors` are written as well. Raises
    ArtefactError for a missing or unfinished run and for a student without a classifier where no probe is asked for, DataError for
    images without labels or with classes that the student or the probe does not know, or for a store without images where
    `data` names none.

    Takes the options below, which are those of tcs.EvalConfig, or one such configuration as its only argument. A path
    is a text or any os.PathLike, and a list may stand for a tuple. TypeError for a name that is no option, ConfigError
    for a value that makes no sense.

    Args:
        run (path): Students: a run, RUN/<student>, a folder that `tcs.export_students` wrote, or an .onnx file.
        store (path): Labelled images: a store, or a folder, a .tar or a table as they lie.
        probe (path or None): Fit a ridge probe of the students' frozen features on the labels of this store, instead of
            their classifiers. Default: None.
        models (tuple of str): Only this student of the run. Default: ().
        data (path or None): The images, where `store` is a store that holds none: what it was made from. Default: None.
        labels (str): Folder demands class folders: auto or folder. Default: "auto".
        split (str or None): Part of `store` to use, as val: a sub-folder, or a split of a named data set. Default:
            None.
        data_dir (path or None): Where a table's paths start, or a named data set is kept. Default: None.
        input_key (str or None): Column of the images or paths. Default: image; path in a table.
        target_key (str or None): Column of the classes. Default: label.
        temperature (float or None): Divides the logits. Default: the one fitted in training, if any.
        batch_size (int): Images at once. Default: 256.
        workers (int or None): Decoding threads. Default: one a core.
        device (str): cpu, cuda, cuda:1 ... Default: "cpu".
        out (path or None): Table .csv, one row a student. Default: None.
        errors (path or None): Contact sheet and list of the images that are wrong. Default: None.
        overwrite (bool): Replace what is in `out` and `errors`. Default: False.
    """
