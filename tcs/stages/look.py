"""`tcs.look`, as it is called. Written by scripts/make_stages.py; not to be edited."""

from typing import Any, overload

from tcs.config.look import LookConfig
from tcs.config.plain import AnyPath
from tcs.config.stage import takes
from tcs.looking.result import Look
from tcs.looking.run import look as run

# fmt: off

@overload
def look(
    config: LookConfig, /
) -> Look: ...
@overload
def look(
    store: AnyPath, *, out: AnyPath = "look.html", coordinates: AnyPath | None = None, targets: AnyPath | None = None,
    readout: str | None = None, data: AnyPath | None = None, map: str = "tsne", seed: int = 42,
    overwrite: bool = False
) -> Look: ...
@takes(run, LookConfig)
def look(*given: Any, **named: Any) -> Any:
    """Look at `store` and write the page to `out`; returns what it shows, a `Look`.

    A pure function of the files and the seed, on one machine.

    ArtefactError for an output that is there and differs, or files of another store or teacher; DataError for features that are not
    finite or do not vary, fewer than two rows, and `data` that lacks images; ConfigError for a `data` or `readout` that has no place;
    CacheError for what is no store.

    Takes the options below, which are those of tcs.LookConfig, or one such configuration as its only argument. A path
    is a text or any os.PathLike, and a list may stand for a tuple. TypeError for a name that is no option, ConfigError
    for a value that makes no sense.

    Args:
        store (path): A feature store, as `tcs.extract` made it.
        out (path): The page. Default: "look.html".
        coordinates (path or None): Coordinates of tcs fit; principal ones of `store` without it. Default: None.
        targets (path or None): Coordinates and hash bits of tcs targets; made anew without it. Default: None.
        readout (str or None): Readout of the store; needed where it holds several. A map is averaged. Default: None.
        data (path or None): The images, for a store that holds none. Default: None.
        map (str): pca: no t-SNE beside it: tsne or pca. Default: "tsne".
        seed (int): Of the t-SNE map, hash bits, and draws of images. Default: 42.
        overwrite (bool): Replace a page that is there. Default: False.
    """
