"""What is told of the losses without torch, from their table: `python -m tcs.criteria.described` writes `embedded/losses.json`.

A test holds the file against the table, so that whoever changes one is told to write the other.
"""

import inspect
import json
import pathlib
from collections.abc import Callable
from typing import Any

from cache import atomic_write_bytes
from tcs.criteria import logits
from tcs.criteria.losses import LOSSES
from tcs.criteria.terms import TOLD


def name_of(function: Callable[..., Any]) -> str:
    """The full name by which a function or class is imported."""
    return f"{function.__module__}.{function.__qualname__}"


def call_of(function: Callable[..., Any]) -> str:
    """How a function is called, as text: its name and its arguments with their defaults."""
    parameters = inspect.signature(function).parameters.values()
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    return f"{function.__qualname__}{inspect.Signature(bare)}"


def described_losses() -> list[dict[str, Any]]:
    """One JSON object a loss, in the order of the table; `cost_percent` is None: it is measured, and joined when told."""
    return [
        {
            "name": name,
            "about": loss.about,
            "needs": sorted(loss.reads),
            "student_maps": loss.student_maps,
            "rows": loss.rows,
            "classifier": name in logits.LOSSES,
            "trains": loss.trains,
            "cost_percent": None,
            "weight": loss.weight,
            "source": loss.source,
            "exact": loss.exact,
            "differs": loss.differs,
            "function": name_of(loss.function),
            "call": call_of(loss.function),
            "related": [name_of(function) for function in loss.related],
        }
        for name, loss in LOSSES.items()
    ]


def main() -> None:
    """Write the file in this checkout."""
    text = json.dumps(described_losses(), indent=1, ensure_ascii=False)
    atomic_write_bytes(pathlib.Path(str(TOLD)), (text + "\n").encode())


if __name__ == "__main__":
    main()
