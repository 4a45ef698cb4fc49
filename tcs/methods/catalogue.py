"""What `tcs methods` lists: every loss, every named method and what else is compared with them, with what a user needs to choose.

Nothing here needs torch.
"""

import dataclasses
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tcs.criteria.terms import parse_loss, told_losses
from tcs.methods.beside import OTHERS
from tcs.methods.named import METHODS, NO_CLASSIFIER, PROBE_FROZEN, PROBE_START, TRAINED, Method, needs_targets

# Written by benchmarks/losses.py: name -> share of a ResNet-18 step at 224 px (percent), measured side by side.
COSTS = importlib.resources.files("tcs") / "embedded" / "loss_costs.json"

WHERE = {
    "labels": "labels",
    "coordinates": "coordinates (tcs targets, or fitted to the store)",
    "bits": "hash bits (tcs targets)",
    "features": "vectors (tcs extract --readout avg)",
    "maps": "maps (tcs extract --readout stage1.map ...)",
    "probe": "vectors, and labels for the teacher's probe",
    "pool": "vectors of the whole pool, and the run's labels",
}

CLASSIFIERS = {
    TRAINED: "trained from a random start",
    PROBE_START: "starts as the ridge probe of the teacher's coordinates, and is trained",
    PROBE_FROZEN: "stays the ridge probe of the teacher's coordinates",
    NO_CLASSIFIER: "none: labels are not read; tcs eval RUN Y.store --probe X.store fits one",
}

HEADS = {
    "linear": "timm's classifier on the features",
    "tcs": "features, coordinates, classifier",
    "none": "features; coordinates only for the loss",
}

AXES = {
    "pca": "tcs.coordinates.axes.principal_axes",
    "random": "tcs.coordinates.axes.random_axes",
    "jl": "tcs.coordinates.axes.gaussian_axes",
    "autoencoder": "tcs.coordinates.axes.autoencoder_axes",
    "cospress": "tcs.coordinates.cospress.cospress_axes",
}

ROWS = {
    "mimic": "all rows of a step, labelled or not",
    "labelled": "the labelled rows of a step",
}


def _costs() -> dict[str, Any]:
    costs: dict[str, Any] = json.loads(COSTS.read_text()) if COSTS.is_file() else {}
    return costs


def cost_facts() -> dict[str, Any]:
    """What `cost_percent` of the losses is a share of, and where it was measured; empty where it was not."""
    costs = _costs()
    if not costs:
        return {}
    where = {name: costs.get(name) for name in ("batch_size", "device", "environment")}
    return {"percent_of": "a ResNet-18 training step at 224 px"} | where


def loss_facts() -> list[dict[str, Any]]:
    """One JSON object a loss, in the order of `tcs methods`.

    `name`; `about`, in words; `needs`, what it reads of the cache: labels, coordinates, bits, features, maps, probe, pool; `student_maps`,
    whether it reads the student's maps; `rows`, mimic (all of a step) or labelled; `trains`, what it trains beside the student;
    `cost_percent` of a ResNet-18 step at 224 px (None where it was not measured); `weight`, the published factor (None: none known);
    `source`, the paper; `exact`, how it differs from the online method; `differs`, how from published code; `function`, its dotted
    name as a function of tensors, `call`, that with its arguments, and `related` functions.
    """
    costs = _costs().get("percent_of_a_step", {})
    return [_with_cost(fact, costs.get(name)) for name, fact in told_losses().items()]


def _with_cost(fact: Mapping[str, Any], cost: float | None) -> dict[str, Any]:
    shown = {key: value for key, value in fact.items() if key != "classifier"}
    return {key: cost if key == "cost_percent" else value for key, value in shown.items()}


def other_facts() -> list[dict[str, Any]]:
    """One JSON object for each of what stands beside the losses: heads, selections, compressions, and losses with two classifiers.

    `name`; `about`, in words; `use`, its command; `source`, the paper; `exact`, how it differs from the online method; `differs`, how
    from published code; `function`, its dotted name, `call`, that with its arguments, and `related` functions.
    """
    return [
        {"name": name, **dataclasses.asdict(other), "related": list(other.related)} for name, other in OTHERS.items()
    ]


def method_facts() -> list[dict[str, Any]]:
    """One JSON object a named method: its head, loss, classifier, warm-up, axes and needs, and the functions of its losses."""
    return [
        {
            "name": name,
            **dataclasses.asdict(method),
            "needs": sorted(method.needs),
            "functions": list(dict.fromkeys(_functions_of(method))),
        }
        for name, method in METHODS.items()
    ]


def _functions_of(method: Method) -> list[str]:
    """Its losses' functions, then what makes its axes, then the losses' other forms."""
    texts = [text for text in (method.loss, method.warm_up) if text]
    losses = [told_losses()[term.name] for text in texts for term in parse_loss(text)]
    axes = [AXES[name] for name in method.axes or AXES] if "coordinates" in method.needs else []
    others = [name for loss in losses for name in loss["related"]]
    return [*(loss["function"] for loss in losses), *axes, *others]


def loss_page(fact: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Everything about a loss as (label, text) lines for a person."""
    name, cost, factor = fact["name"], fact["cost_percent"], fact["weight"]
    term = name if factor in (None, 1) else f"{factor:g}*{name}"
    use = name if name == "ce" else f"ce + {term}"
    return [
        (name, fact["about"]),
        ("use", f"tcs train X.store --loss '{use}'" + (" --targets t.h5" if "bits" in fact["needs"] else "")),
        ("needs", needs_in_words(fact["needs"])),
        ("sees", ROWS[fact["rows"]]),
        ("trains", fact["trains"] or "nothing beside the student"),
        (
            "published factor",
            "none known" if factor is None else f"{factor:g}, for the features of the paper",
        ),
        *([] if cost is None else [("cost", f"{cost:.1f} % of {_measured_on()}")]),
        ("source", fact["source"] if fact["source"] != "-" else "no publication"),
        ("from a cache", fact["exact"]),
        *([("differs", fact["differs"] or "in nothing from the published code")] if fact["source"] != "-" else []),
        *_function_lines(fact),
    ]


def _measured_on() -> str:
    facts = cost_facts()
    return f"{facts['percent_of']}, batches of {facts['batch_size']}, on {facts['device']}"


def _function_lines(fact: Mapping[str, Any]) -> list[tuple[str, str]]:
    named = [("function", fact["function"]), ("call", fact["call"])]
    return named + [("related" if index == 0 else "", text) for index, text in enumerate(fact["related"])]


def other_page(fact: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Everything about one of `OTHERS` as (label, text) lines for a person."""
    return [
        (fact["name"], fact["about"]),
        ("use", fact["use"]),
        ("source", fact["source"]),
        ("from a cache", fact["exact"]),
        ("differs", fact["differs"]),
        *_function_lines(fact),
    ]


def method_page(fact: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Everything about a named method as (label, text) lines for a person."""
    return [
        (fact["name"], fact["about"]),
        (
            "use",
            f"tcs train X.store --method {fact['name']}"
            + (" --targets t.h5" if needs_targets(METHODS[fact["name"]]) else ""),
        ),
        ("needs", needs_in_words(fact["needs"])),
        ("loss", fact["loss"]),
        *([("warm-up", f"{fact['warm_up']}, then a ridge fit of the projection")] if fact["warm_up"] else []),
        ("head", f"{fact['head']}: {HEADS[fact['head']]}"),
        ("classifier", CLASSIFIERS[fact["classifier"]]),
        *([("axes", f"tcs fit --method {' or '.join(fact['axes'])}")] if fact["axes"] else []),
        ("unlabelled", "rows take part" if fact["uses_pool"] else "rows take no part"),
        *[("functions" if index == 0 else "", text) for index, text in enumerate(fact["functions"])],
    ]


def needs_in_words(needs: Sequence[str]) -> str:
    """What must be cached, for a person."""
    return ", ".join(WHERE[need] for need in WHERE if need in needs) or "nothing"
