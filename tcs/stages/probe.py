"""`tcs.probe`, as it is called. Written by scripts/make_stages.py; not to be edited."""

from typing import Any, overload

from tcs.config.evaluate import ProbeConfig
from tcs.config.plain import AnyPath, Several
from tcs.config.stage import takes
from tcs.evaluation.probe import probe as run
from tcs.reporting.compression import Compression

# fmt: off

@overload
def probe(
    config: ProbeConfig, /
) -> Compression: ...
@overload
def probe(
    store: AnyPath, *, test: AnyPath, readout: str | None = None,
    projections: Several[str] = ("jl", "orthogonal", "pca", "selection"), dims: Several[int] = (),
    compressions: Several[float] = (), head: str = "ridge", shots: int | None = None, split_seed: int | None = None,
    split_file: AnyPath | None = None, seeds: Several[int] = (0, 1, 2), copies: int = 200, device: str = "cpu",
    out: AnyPath | None = None, overwrite: bool = False
) -> Compression: ...
@takes(run, ProbeConfig)
def probe(*given: Any, **named: Any) -> Any:
    """Fit heads on the features of `store`, whole and compressed, and score them on those of `test`.

    Returns a `Compression`: its `rows` are mappings, one a projection, number of coordinates and seed (`top1` in percent), its
    `recipe` says what they are of.
    Tables and a figure are written into `out` where that is named; the results of the same options there are read instead.

    Raises ArtefactError where `out` holds something else or the stores are not of one teacher, DataError for stores
    without labels or with views, one store given twice, or classes that the training store lacks, ConfigError for more
    coordinates than features, and where matplotlib is missing (the tables are written before).

    Takes the options below, which are those of tcs.ProbeConfig, or one such configuration as its only argument. A path
    is a text or any os.PathLike, and a list may stand for a tuple. TypeError for a name that is no option, ConfigError
    for a value that makes no sense.

    Args:
        store (path): Store that heads are fitted on.
        test (path): Store to score on, of the same teacher.
        readout (str or None): Readout of both stores; needed where they hold several. A map is averaged. Default: None.
        projections (tuple of str): Kind of compression: jl, orthogonal, pca or selection. Default: ("jl", "orthogonal",
            "pca", "selection").
        dims (tuple of int): Coordinates K. Default: ().
        compressions (tuple of float): Dims of the features over K. Default: ().
        head (str): Classifier on K coordinates; transductive: labels are spread over all other rows of the store first:
            ridge, logistic, ibm2 or transductive. Default: "ridge".
        shots (int or None): Labelled rows a class. Default: all labels.
        split_seed (int or None): One k-shot split for all seeds; a split a seed without it. Default: None.
        split_file (path or None): The labelled rows of this file of `class key` lines. Default: None.
        seeds (tuple of int): Seed of projections and splits. Default: (0, 1, 2).
        copies (int): Noisy copies of a row; `head` ibm2 only. Default: 200.
        device (str): Where `head` ibm2 and transductive are fitted. Default: "cpu".
        out (path or None): Folder for the table (.csv, .md) and the figure. Default: None.
        overwrite (bool): Replace the results of other options in `out`. Default: False.
    """
