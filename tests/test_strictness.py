"""Warnings at lines of ours are errors, those that others give inside themselves are not: in tests, and in their processes."""

import re
import types
import warnings

import numpy as np
import pytest
import strictness
from forks import in_process


def package(name: str) -> types.ModuleType:
    """A module that gives warnings: of itself, and of the line that calls it."""
    made = types.ModuleType(name)
    exec(
        "import warnings\n"
        "def inside(category):\n    warnings.warn('old', category)\n"
        "def of_the_caller(category):\n    warnings.warn('old', category, stacklevel=2)\n",
        made.__dict__,
    )
    return made


def outcomes() -> dict[str, str]:
    """What becomes of warnings here, by who gives them and of whom."""
    theirs, ours = package("timm.layers.made_up"), package("tcs.students.made_up")
    others = package("torch.nn.made_up")
    others.__dict__["called"] = theirs.of_the_caller
    exec("def calling(category):\n    called(category)\n", others.__dict__)
    acts = {
        "ours": lambda: ours.inside(DeprecationWarning),
        "theirs at our line": lambda: theirs.of_the_caller(FutureWarning),
        "theirs": lambda: theirs.inside(FutureWarning),
        "theirs at the line of others": lambda: others.calling(FutureWarning),
        "numbers of theirs": lambda: theirs.inside(RuntimeWarning),
        "numbers": lambda: np.float64(1) / np.float64(0),
    }
    found = {}
    for name, act in acts.items():
        with warnings.catch_warnings(record=True) as seen:
            try:
                act()
                found[name] = f"{len(seen)} shown"
            except Warning as error:
                found[name] = type(error).__name__
    return found


WANTED = {
    "ours": "DeprecationWarning",
    "theirs at our line": "FutureWarning",
    "theirs": "1 shown",
    "theirs at the line of others": "1 shown",
    "numbers of theirs": "RuntimeWarning",
    "numbers": "RuntimeWarning",
}


def test_in_a_test() -> None:
    assert outcomes() == WANTED


def test_in_a_process_of_a_test() -> None:
    assert in_process(outcomes) == (0, WANTED)


@pytest.mark.parametrize("name", ["cache.files", "tcs", "tcs.cli.train", "test_train", "conftest", "benchmarks.turns"])
def test_our_modules_are_known_by_their_names(name: str) -> None:
    assert re.match(strictness.our_modules(), name)


@pytest.mark.parametrize("name", ["torch.nn", "timm", "cachetools", "tcsh", "numpy.testing", "multiprocessing.pool"])
def test_others_are_not_taken_for_ours(name: str) -> None:
    assert not re.match(strictness.our_modules(), name)


def test_this_module_goes_by_a_name_of_ours() -> None:
    assert re.match(strictness.our_modules(), __name__)
