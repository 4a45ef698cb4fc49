"""What `tcs methods` lists: every loss and every named method, with what a user needs to choose one."""

import dataclasses
import json
import pathlib
from typing import Any

from tcs.losses import LOSSES
from tcs.methods import METHODS

# Written by benchmarks/losses.py: name -> share of a ResNet-18 step at 224 px (percent), measured side by side.
COSTS = pathlib.Path(__file__).parent / "embedded" / "loss_costs.json"

WHERE = {
    "labels": "labels",
    "coordinates": "coordinates (tcs targets)",
    "bits": "hash bits (tcs targets)",
    "features": "a vector readout",
    "maps": "map readouts (tcs extract --readout ...)",
    "probe": "a vector readout and the run's labels",
}


def loss_facts() -> list[dict[str, Any]]:
    """One JSON object a loss: name, needs, rows, trains, cost_percent, weight, source, exact, differs, function, about."""
    costs = json.loads(COSTS.read_text())["percent_of_a_step"] if COSTS.exists() else {}
    return [
        {
            "name": name,
            "about": loss.about,
            "needs": sorted(loss.reads),
            "student_maps": loss.student_maps,
            "rows": loss.rows,
            "trains": loss.trains,
            "cost_percent": costs.get(name),
            "weight": loss.weight,
            "source": loss.source,
            "exact": loss.exact,
            "differs": loss.differs,
            "function": loss.function,
        }
        for name, loss in LOSSES.items()
    ]


def method_facts() -> list[dict[str, Any]]:
    """One JSON object a named method: its head, loss, classifier, warm-up, axes and needs."""
    return [
        {"name": name, **dataclasses.asdict(method), "needs": sorted(method.needs)} for name, method in METHODS.items()
    ]


def needs_in_words(needs: list[str]) -> str:
    """What must be cached, for a person."""
    return ", ".join(WHERE[need] for need in WHERE if need in needs) or "nothing"
