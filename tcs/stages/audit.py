"""`tcs.audit`, as it is called. Written by scripts/make_stages.py; not to be edited."""

from typing import Any, overload

from tcs.auditing.result import Audit
from tcs.auditing.run import audit as run
from tcs.config.audit import AuditConfig
from tcs.config.plain import AnyPath, Several
from tcs.config.stage import takes

# fmt: off

@overload
def audit(
    config: AuditConfig, /
) -> Audit: ...
@overload
def audit(
    store: AnyPath, *, test: Several[AnyPath] = (), out: Several[AnyPath] = (), readout: str | None = None,
    near: float = 0.85, top: int = 20, overwrite: bool = False
) -> Audit: ...
@takes(run, AuditConfig)
def audit(*given: Any, **named: Any) -> Any:
    """What is wrong with the data of `store`, written to every `out`. A pure function of the stores on one machine.

    Labels are judged by a ridge probe (Hoerl and Kennard 1970) that was fitted without the image, and by the nearest images; copies
    and outliers by their cosines, classes by size and spread.
    A store without labels, or of one class, has no label errors, and a note says so; against a test store of another teacher exact
    copies alone are looked for. ArtefactError for an output that is there and differs, DataError for features that are not finite
    or a single row, CacheError for what is no store.

    Takes the options below, which are those of tcs.AuditConfig, or one such configuration as its only argument. A path
    is a text or any os.PathLike, and a list may stand for a tuple. TypeError for a name that is no option, ConfigError
    for a value that makes no sense.

    Args:
        store (path): A feature store, as `tcs.extract` made it.
        test (tuple of paths): A store of test images, to find copies of. Default: ().
        out (tuple of paths): Table (.csv) or page (.html). Default: ().
        readout (str or None): Readout of the store; needed where it holds several. A map is averaged. Default: None.
        near (float): Cosine of near copies, 1 for equal. Default: 0.85.
        top (int): Images of a kind that the page shows, up to 200. Default: 20.
        overwrite (bool): Replace outputs that are there. Default: False.
    """
