"""`tcs.suggest`, as it is called. Written by scripts/make_stages.py; not to be edited."""

from typing import Any, overload

from tcs.config.labelling import SuggestConfig
from tcs.config.plain import AnyPath, Several
from tcs.config.stage import takes
from tcs.labelling.suggest import suggest as run
from tcs.labelling.table import Suggestion

# fmt: off

@overload
def suggest(
    config: SuggestConfig, /
) -> tuple[Suggestion, ...]: ...
@overload
def suggest(
    store: AnyPath, *, n: int, out: AnyPath, labelled: AnyPath | None = None, readout: str | None = None,
    also: Several[AnyPath] = (), sheet: AnyPath | None = None, folder: AnyPath | None = None,
    data: AnyPath | None = None, seed: int = 42, overwrite: bool = False
) -> tuple[Suggestion, ...]: ...
@takes(run, SuggestConfig)
def suggest(*given: Any, **named: Any) -> Any:
    """The `n` images to label next, best first, written to `out` (and `sheet`, `folder`).

    Each has its `key`, its `rank` from 1, the `reason` in words, and the number of its `row` in the store. Without labels they are the
    densest images of as many clusters (TypiClust: Hacohen et al. 2022, arXiv 2202.02794); with labels, of clusters without one, where
    the transductive probe is unsure.

    A pure function of the features, the labels in `labelled` and the seed, on one machine. Where the outputs of the same
    command are there already they are left as they are, with the classes that people have filled in, and missing ones are
    written. ArtefactError for outputs made otherwise, unless `overwrite` replaces them; DataError for too few unlabelled rows,
    unknown keys in the file, features that are not finite, and images that cannot be had.

    Takes the options below, which are those of tcs.SuggestConfig, or one such configuration as its only argument. A
    path is a text or any os.PathLike, and a list may stand for a tuple. TypeError for a name that is no option,
    ConfigError for a value that makes no sense.

    Args:
        store (path): A feature store, as `tcs.extract` made it.
        n (int): How many images to label next.
        out (path): Table key,rank,reason,class (.csv); class is yours to fill in.
        labelled (path or None): What is labelled so far: such a table, or `class key` lines. Default: None.
        readout (str or None): Readout of the store; needed where it holds several. A map is averaged. Default: None.
        also (tuple of paths): Another teacher's store of the same images. Default: ().
        sheet (path or None): Also a picture (.png, .jpg) of thumbnails with rank and key. Default: None.
        folder (path or None): Also a folder with copies of the images. Default: None.
        data (path or None): The images, for a store that holds none. Default: None.
        seed (int): Of the draws. Default: 42.
        overwrite (bool): Replace outputs made otherwise, with the classes filled in. Default: False.
    """
