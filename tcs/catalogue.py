"""What `tcs methods` lists: every loss and every named method, with what a user needs to choose one."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from tcs.criteria.base import Loss
from tcs.losses import LOSSES, parse_loss
from tcs.methods import METHODS, PROBE_FROZEN, PROBE_START, TRAINED, Method

# Written by benchmarks/losses.py: name -> share of a ResNet-18 step at 224 px (percent), measured side by side.
COSTS = pathlib.Path(__file__).parent / "embedded" / "loss_costs.json"

WHERE = {
    "labels": "labels",
    "coordinates": "coordinates (tcs targets)",
    "bits": "hash bits (tcs targets)",
    "features": "vectors (tcs extract --readout avg)",
    "maps": "maps (tcs extract --readout stage1.map ...)",
    "probe": "vectors, and labels for the teacher's probe",
}
CLASSIFIERS = {
    TRAINED: "trained from a random start",
    PROBE_START: "starts as the ridge probe of the teacher's coordinates, and is trained",
    PROBE_FROZEN: "stays the ridge probe of the teacher's coordinates",
}
ROWS = {
    "mimic": "all rows of a step, labelled or not",
    "labelled": "the labelled rows of a step",
}


def loss_facts() -> list[dict[str, Any]]:
    """One JSON object a loss: its name and what `tcs.criteria.base.Loss` says of it, and its share of a training step."""
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
            "related": list(loss.related),
        }
        for name, loss in LOSSES.items()
    ]


def method_facts() -> list[dict[str, Any]]:
    """One JSON object a named method: its head, loss, classifier, warm-up, axes and needs, and the functions of its losses."""
    return [
        {
            "name": name,
            **dataclasses.asdict(method),
            "needs": sorted(method.needs),
            "functions": sorted(
                {function for loss in _losses_of(method) for function in (loss.function, *loss.related)}
            ),
        }
        for name, method in METHODS.items()
    ]


def _losses_of(method: Method) -> list[Loss]:
    texts = [text for text in (method.loss, method.warm_up) if text]
    return [LOSSES[term.name] for text in texts for term in parse_loss(text)]


def loss_page(fact: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Everything about a loss as (label, text) lines for a person."""
    name, cost, factor = fact["name"], fact["cost_percent"], fact["weight"]
    term = name if factor in (None, 1) else f"{factor:g}*{name}"
    use = name if name == "ce" else f"ce + {term}"
    return [
        (name, fact["about"]),
        ("use", f"tcs train X.store --loss '{use}'" + (" --targets t.h5" if _from_targets(fact["needs"]) else "")),
        ("needs", needs_in_words(fact["needs"])),
        ("sees", ROWS[fact["rows"]]),
        ("trains", fact["trains"] or "nothing beside the student"),
        (
            "published factor",
            "none known" if factor is None else f"{factor:g}, for the features of the paper",
        ),
        *([] if cost is None else [("cost", f"{cost:.1f} % of a ResNet-18 training step at 224 px")]),
        ("source", fact["source"] if fact["source"] != "-" else "no publication"),
        ("from a cache", fact["exact"]),
        *([("differs", fact["differs"] or "in nothing from the published code")] if fact["source"] != "-" else []),
        ("function", fact["function"]),
        *[("related" if index == 0 else "", text) for index, text in enumerate(fact["related"])],
    ]


def method_page(fact: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Everything about a named method as (label, text) lines for a person."""
    head = "features, coordinates, classifier" if fact["head"] == "tcs" else "timm's classifier on the features"
    return [
        (fact["name"], fact["about"]),
        (
            "use",
            f"tcs train X.store --method {fact['name']}" + (" --targets t.h5" if _from_targets(fact["needs"]) else ""),
        ),
        ("needs", needs_in_words(fact["needs"])),
        ("loss", fact["loss"]),
        *([("warm-up", f"{fact['warm_up']}, then a ridge fit of the projection")] if fact["warm_up"] else []),
        ("head", f"{fact['head']}: {head}"),
        ("classifier", CLASSIFIERS[fact["classifier"]]),
        *([("axes", f"tcs fit --method {' or '.join(fact['axes'])}")] if fact["axes"] else []),
        ("unlabelled", "rows take part" if fact["uses_pool"] else "rows take no part"),
        *[("functions" if index == 0 else "", text) for index, text in enumerate(fact["functions"])],
    ]


def _from_targets(needs: Sequence[str]) -> bool:
    return bool({"coordinates", "bits"} & set(needs))


def needs_in_words(needs: Sequence[str]) -> str:
    """What must be cached, for a person."""
    return ", ".join(WHERE[need] for need in WHERE if need in needs) or "nothing"
