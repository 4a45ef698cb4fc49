"""What a student of a grid costs in use, and what a teacher in every step would have cost. Measured once a student and folder.

Multiply-adds are counted by torch. Latency is the median of one image on one thread of the CPU, while whatever else this machine does
goes on: to be compared inside one table, and not with another machine's.
"""

import dataclasses
import functools
import pathlib
from typing import Any

import torch

import cache
from tcs.inference.latency import gigamacs, timed
from tcs.inference.model import UsableModel
from tcs.inference.opening import usable
from tcs.inference.runs import FinishedStudent
from tcs.plain_files import load_mapping, save_json
from tcs.training.forecast import extraction_costs

COSTS = "costs"
SECONDS = 0.2  # for which one image is timed: some dozens of runs of a small student


@dataclasses.dataclass(frozen=True, kw_only=True)
class Costs:
    """Where `gmacs` and `latency_ms` of the students of a grid are kept, a file each in the folder `out`, so that all its rows of a
    student have the same; without `with_latency` nothing is timed."""

    out: pathlib.Path
    with_latency: bool

    def of(self, student: FinishedStudent) -> dict[str, Any]:
        """1e9 multiply-adds of an image, and milliseconds; of a grid without latency the first alone."""
        details = student.record["student"]
        asked = {
            "student": student.record["identity"]["model"],
            "img_size": details["image_size"],
            "classes": len(student.record["classes"]),
        }
        path = self.out / COSTS / f"{cache.digest_of_json(asked)[:16]}.json"
        known = load_mapping(path, {}, f"remove {path.name} and run tcs fewshot again") if path.exists() else {}
        if not known or (self.with_latency and "latency_ms" not in known):
            known = asked | self._measured(usable(student, torch.device("cpu")))
            path.parent.mkdir(parents=True, exist_ok=True)
            save_json(path, known)
        names = ("gmacs", "latency_ms") if self.with_latency else ("gmacs",)
        return {name: known[name] for name in names if name in known}

    def _measured(self, model: UsableModel) -> dict[str, float]:
        counted = gigamacs(model)
        found = {} if counted is None else {"gmacs": counted}
        if not self.with_latency:
            return found
        image_13SS = torch.zeros(1, 3, model.card.size, model.card.size, dtype=torch.uint8)
        inputs = model.network.inputs(image_13SS)
        speed = timed(functools.partial(model.network.forward, inputs), threads=1, seconds=SECONDS)
        return found | {"latency_ms": round(speed.median, 4)}


def online_teacher_seconds(store: cache.Store, images: int) -> float | None:
    """Seconds that the teacher of `store` would take for so many images, by what its extraction measured; None where that was not
    recorded."""
    run: Any = extraction_costs(store).get("run")
    each = run.get("teacher_seconds_per_image") if isinstance(run, dict) else None
    return round(images * float(each), 2) if each else None
