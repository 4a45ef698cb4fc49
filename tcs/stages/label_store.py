"""`tcs.label_store`, as it is called. Written by scripts/make_stages.py; not to be edited."""

from typing import Any, overload

from cache import LabelChanges
from tcs.config.labelling import LabelConfig
from tcs.config.plain import AnyPath
from tcs.config.stage import takes
from tcs.splits.given_labels import label_store as run

# fmt: off

@overload
def label_store(
    config: LabelConfig, /
) -> LabelChanges: ...
@overload
def label_store(
    store: AnyPath, *, label_file: AnyPath | None = None, remove_file: AnyPath | None = None
) -> LabelChanges: ...
@takes(run, LabelConfig)
def label_store(*given: Any, **named: Any) -> Any:
    """Give images of a closed store labels, correct them, or take them away, without a teacher; returns how many of each.

    Images that the files do not name keep their labels. The store keeps its identity, so coordinates and targets stay valid;
    splits, spread labels and results that read labels are others. DataError for a file that cannot be read, an image that the store
    lacks, two classes for one image, or a class and none; CacheError for a store that is open, packed or in use.

    Takes the options below, which are those of tcs.LabelConfig, or one such configuration as its only argument. A path
    is a text or any os.PathLike, and a list may stand for a tuple. TypeError for a name that is no option, ConfigError
    for a value that makes no sense.

    Args:
        store (path): A feature store, as `tcs.extract` made it.
        label_file (path or None): path,class or key,...,class rows, as tcs suggest writes them, or class key lines.
            Default: None.
        remove_file (path or None): Take the labels of these images away: keys or paths, one a line, or a table with
            such a column. Default: None.
    """
