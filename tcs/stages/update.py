"""`tcs.update`, as it is called. Written by scripts/make_stages.py; not to be edited."""

from typing import Any, overload

from tcs.config.plain import AnyPath, Several
from tcs.config.stage import takes
from tcs.config.update import UpdateConfig
from tcs.maintenance.changes import StoreChanges
from tcs.maintenance.update import update as run

# fmt: off

@overload
def update(
    config: UpdateConfig, /
) -> StoreChanges: ...
@overload
def update(
    store: AnyPath, data: AnyPath | None = None, *, out: AnyPath | None = None, keep_gone: bool = False,
    keep_labels: bool = False, split: str | None = None, data_dir: AnyPath | None = None,
    class_map: AnyPath | None = None, label_file: AnyPath | None = None,
    unlabelled_data: Several[AnyPath] | None = None, teacher: str | None = None,
    teacher_checkpoint: AnyPath | None = None, device: str | None = None, workers: int | None = None,
    max_bad: int | None = None, dry_run: bool = False
) -> StoreChanges: ...
@takes(run, UpdateConfig)
def update(*given: Any, **named: Any) -> Any:
    """Make a store follow its data set; returns what has changed. With `dry_run` that is told, with its cost, and nothing is written.

    Row order, labels, classes and identity are those of a fresh extraction of the data set with the recorded options (but for rows
    that `keep_gone` keeps); labels that were given later stay, where the data set has not changed that image's class itself, and a
    label file is followed, be it that it gained, changed or lost labels, unless `keep_labels` says otherwise. A store that follows
    already is left alone. Raises TcsError or CacheError; an update that was cut short is taken up by the next call.

    Takes the options below, which are those of tcs.UpdateConfig, or one such configuration as its only argument. A path
    is a text or any os.PathLike, and a list may stand for a tuple. TypeError for a name that is no option, ConfigError
    for a value that makes no sense.

    Args:
        store (path): A feature store, as `tcs.extract` made it.
        data (path or None): The images as they are now. Default: as recorded.
        out (path or None): Folder of the new store. Default: in place of `store`.
        keep_gone (bool): Keep rows whose images `data` has no more. Default: False.
        keep_labels (bool): Keep the labels that `store` has, and read no label file. Default: False.
        split (str or None): Part of `data` to use. Default: as recorded in `store`.
        data_dir (path or None): Where a table's paths start. Default: as recorded.
        class_map (path or None): Text file: one class name a line. Default: as recorded.
        label_file (path or None): Labels, which `store` follows. Default: as recorded.
        unlabelled_data (tuple of paths or None): More images without labels. Default: as recorded.
        teacher (str or None): The recorded teacher, named by you: asked for where it is Python code. Default: None.
        teacher_checkpoint (path or None): Where the weights are now. Default: as recorded.
        device (str or None): cpu, cuda, cuda:1 ... Default: as recorded.
        workers (int or None): Decoding processes. Default: as recorded.
        max_bad (int or None): Bad images that are left out without failing. Default: as recorded.
        dry_run (bool): Tell what has changed and what it costs, and write nothing. Default: False.
    """
