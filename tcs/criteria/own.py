"""Losses of one's own, named by their place: ``ce + 1.0*package.module:NAME``. Imported when asked for: no table is added to."""

import functools
import importlib
import pathlib
import sys
from typing import TYPE_CHECKING

from tcs.errors import ConfigError

if TYPE_CHECKING:
    from tcs.criteria.base import Loss


@functools.cache
def own_loss(name: str) -> "Loss":
    """The object `Loss` that `package.module:NAME` is.

    The folder that the command runs in counts as a place to import from. ConfigError, naming what is missing, where there is none.
    """
    from tcs.criteria.base import Loss

    module, _, attribute = name.partition(":")
    here = str(pathlib.Path.cwd())
    sys.path.insert(0, here)  # as `python -m` has it; a console script does not
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"--loss names '{name}', which cannot be imported ({error}); write MODULE:NAME of a file in {here}, or of a package that is "
            "installed."
        ) from error
    finally:
        sys.path.remove(here)
    if not isinstance(found, Loss):
        raise ConfigError(
            f"--loss names '{name}', which is a {type(found).__name__}; it must be a tcs.criteria.base.Loss."
        )
    return found
