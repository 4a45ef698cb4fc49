"""Which warnings are errors, in the tests and in every process that they start.

Errors are those that point at a line of this repository: ours, and those of a package that advises against a call of ours and
says so at the calling line (`stacklevel`). Errors wherever they come from are those about numbers and about things left open.
What else a package warns about inside itself is for its next release, and no reason for a red suite.
"""

import pathlib
import warnings

ROOT = pathlib.Path(__file__).parent.parent
PACKAGES = ("cache", "tcs", "benchmarks", "scripts", "tests", "__main__", "__mp_main__")
WHEREVER = (RuntimeWarning, ResourceWarning)


def our_modules() -> str:
    """The expression that the names of this repository's modules match: its packages, and the files that are run or imported alone."""
    alone = {path.stem for folder in ("tests", "scripts") for path in (ROOT / folder).glob("*.py")}
    return rf"({'|'.join(sorted(alone | set(PACKAGES)))})(\.|$)"


def pytest_lines() -> list[str]:
    """The rule as lines of pytest's `filterwarnings`."""
    return [
        "error::pytest.PytestWarning",  # errors in threads and destructors, tests that are never collected
        *(f"error::{category.__name__}" for category in WHEREVER),
        f"error:::{our_modules()}",
    ]


def apply() -> None:
    """The rule in this process, above what the interpreter does with warnings."""
    for category in WHEREVER:
        warnings.simplefilter("error", category)
    warnings.filterwarnings("error", module=our_modules())
