"""`import cache` in tcs means the package beside tcs/, whatever else of that name lies on Python's path.

Python looks for `cache` in the folder of the script (with `-m` and `-c`, in the working folder) before it looks where tcs is
installed. Three things may be there. A folder without `__init__.py`, a cache of somebody's data for one, makes an empty namespace
package: it has nothing to import, so the package of tcs takes its place, also where it was imported already. A module or a regular
package of the user's is one that they may need themselves; two of one name cannot be told apart in one process, so it is named in an
error. The package of tcs itself, as a rule: then all is left as Python does it.

Standard library alone, and nothing is loaded here: this runs at every `import tcs`.
"""

import importlib
import os
import pathlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from tcs.errors import ShadowedError

PACKAGE = "cache"

HOME = str(pathlib.Path(__file__).parent.parent)  # the folder that holds both packages


class OwnPackageFinder:
    """The first entry of `sys.meta_path`: answers for `cache` alone, and only where Python would find something else."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of the package beside tcs/ in place of a namespace package or of nothing at all; None where Python finds it
        by itself. ShadowedError where it finds a module of somebody else's."""
        del path, target  # of no interest for a top-level package
        if name != PACKAGE:
            return None
        found, own = PathFinder.find_spec(PACKAGE), _own_spec()
        if own is None:
            return None
        if found is None or found.origin is None:
            return own
        _require_own(found.origin, own)
        return None


def install() -> None:
    """Have `cache` found beside tcs/ from now on, and mend what was imported before.

    ShadowedError where a module of somebody else's was. Does nothing where no `cache` lies beside tcs/, or a second time.
    """
    own = _own_spec()
    if own is None or any(isinstance(finder, OwnPackageFinder) for finder in sys.meta_path):
        return
    loaded = sys.modules.get(PACKAGE)
    is_empty = loaded is not None and _is_empty_namespace(loaded)
    if loaded is not None and not is_empty:
        _require_own(_place(loaded), own)
    sys.meta_path.insert(0, OwnPackageFinder())
    if loaded is not None and is_empty:
        importlib.reload(loaded)  # into the same module, so that names bound to it see the package


def _own_spec() -> ModuleSpec | None:
    """The package beside tcs/, if there is one."""
    found = PathFinder.find_spec(PACKAGE, [HOME])
    return None if found is None or found.origin is None else found


def _is_empty_namespace(module: ModuleType) -> bool:
    """Whether `module` is a folder without `__init__.py` of which nothing has been imported."""
    is_namespace = getattr(module, "__file__", None) is None and hasattr(module, "__path__")
    return is_namespace and not any(name.startswith(f"{PACKAGE}.") for name in sys.modules)


def _place(module: ModuleType) -> str:
    """The file of a module, the folder of a namespace package, or what Python says of a module that has neither."""
    return str(getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), repr(module)))


def _require_own(place: str, own: ModuleSpec) -> None:
    if os.path.realpath(place) != os.path.realpath(str(own.origin)):
        raise ShadowedError(
            f"{place} hides {own.origin}, which tcs needs: Python takes the first '{PACKAGE}' on its path. Rename it, or start "
            "where it does not come first (the command tcs instead of python -m tcs, a script in another folder)."
        )
