"""Students from few labels, on real caches: what part A, B, C, the ablation and the curve over steps train, and their tables.

    python benchmarks/students.py plan
    python benchmarks/students.py targets --stores STORES
    OMP_NUM_THREADS=1 python benchmarks/students.py run --stores STORES --part methods --cache flowers5 --cells 1/2
    python benchmarks/students.py collect
    python -m benchmarks.students_tables

STORES/flowers5-train.store and -test.store are the caches of flowers5; `targets` makes the coordinates and hash bits beside them
that some rows read, and STORES/tf_efficientnet_lite0.safetensors are the weights that the pretrained student starts from. A part
on a cache is a grid of `tcs fewshot`, in benchmarks/results/students/<cache>, or <cache>-<student> where the student needs options
of its own: it resumes from the rows that are committed there, and a second process shares its cells. `collect` writes the rows of
all folders to benchmarks/results/students/results.csv, with the data set in front. The pool is all other training images of the
store, scores are of the last step on all test images, steps are equal for all methods of a student. Rate, steps and default method
were chosen on development splits (benchmarks/results/pool-methods-dev).
"""

import argparse
import os
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

import cache
from tcs.artefact import teacher_identity_of
from tcs.config.coordinates import TargetsConfig
from tcs.config.evaluate import FewshotConfig
from tcs.coordinates.build import fit_coordinates
from tcs.coordinates.system import save_coordinates
from tcs.coordinates.targets import fit_targets
from tcs.grid.run import fewshot
from tcs.plain_files import load_table, save_table
from tcs.runtime import say

RESULTS = pathlib.Path(__file__).parent / "results" / "students"
CACHES = ("cifar10-simclr", "cifar10-lite2", "flowers5", "pbc8")
SMALL = "resnet18,layers=(1,1,1,1),channels=(16,32,48,64)"
LARGER = "resnet18,layers=(1,1,1,1),channels=(32,64,128,256)"
VITS = {  # 16 patches an image: with 64 of them one cell of 1,600 steps takes a processor 10 to 20 minutes
    32: "vit_tiny_patch16_224,img_size=32,patch_size=8,embed_dim=128,depth=6,num_heads=4",
    64: "vit_tiny_patch16_224,img_size=64,patch_size=16,embed_dim=128,depth=6,num_heads=4",
}
LITE0 = "tf_efficientnet_lite0"
PRIMARY = ["tcs-pool", "kd"]
REFERENCES = ["teacher-probe", "teacher-transductive"]

KD = {"label": "kd", "loss": "kd", "probe_head": "ridge"}  # from the ridge probe of the k shots
SPREAD = {"label": "kd-transductive", "loss": "kd", "probe_head": "transductive"}
POOL = "tcs-pool"


def _variant(label: str, loss: str = "pool + 1.0*l2", **options: Any) -> dict[str, Any]:
    return {"label": label, "head": "linear", "loss": loss} | options


METHODS: Sequence[Any] = ("labels", KD, "tcs-probe", SPREAD, POOL)
MORE_METHODS: Sequence[Any] = (
    "bottleneck",
    {"label": "tcs", "method": "tcs", "targets": "k128"},
    {"label": "tcs (random axes)", "method": "tcs", "targets": "random128"},
    {"label": "tcs+elsh", "method": "tcs+elsh", "targets": "k128"},
    {"label": "dho", "method": "dho", "probe_head": "transductive"},
    _variant("projector", "ce + 2*projector"),
    _variant("lshl2", "ce + 6*lshl2"),
    _variant("kd-transductive + l2", "kd + 1.0*l2", probe_head="transductive"),
    {"label": "pool-head", "method": "pool-head"},
)
ABLATION: Sequence[Any] = (
    *(_variant(f"{name} alone", pool_estimator=name) for name in ("ridge-em", "gaussian-em", "propagation")),
    _variant("mutual information alone", pool_estimator="mutual-information"),
    _variant("soft labels of the ridge probe", pool_estimator="ridge"),
    *(_variant(f"temperature {value}", pool_temperature=value) for value in (0.5, 2.0, 4.0)),
    _variant("without l2", "pool"),
    _variant("0.3 l2", "pool + 0.3*l2"),
    _variant("3 l2", "pool + 3.0*l2"),
    _variant("with elsh", "pool + 1.0*l2 + 1.0*elsh", targets="k128"),
    *({"label": f"axes {name}", "method": POOL, "targets": name} for name in ("k32", "k512", "random128")),
)
STEPS = tuple(
    {"label": f"{method}, {share} x steps", "method": method, "steps": share}
    for method in ("labels", POOL)
    for share in (0.25, 4)
)
AXES = {  # of `targets`
    "k128": ("pca", 128),
    "k32": ("pca", 32),
    "k512": ("pca", 512),
    "random128": ("random", 128),
}
WITH_TARGETS = ("cifar10-lite2", "pbc8")

# part -> students (of an image side), methods, shots, seeds
PARTS: Mapping[str, Mapping[str, Any]] = {
    "methods": {"methods": METHODS, "shots": [1, 4, 16], "seeds": 5},
    "one-shot": {"methods": ("labels", KD, POOL), "shots": [1], "seeds": 10},
    "more-methods": {
        "methods": (*METHODS, *MORE_METHODS),
        "shots": [4],
        "seeds": 3,
        "caches": WITH_TARGETS,
    },
    "ablation": {"methods": (KD, POOL, *ABLATION), "shots": [4], "seeds": 5, "caches": WITH_TARGETS},
    "steps": {"methods": (KD, POOL, *STEPS), "shots": [4], "seeds": 3, "caches": WITH_TARGETS},
    "views": {  # of the teacher on four crops of each image, which the student sees again, instead of one clean image
        "methods": ({"label": f"{POOL}, 4 views", "method": POOL},),
        "shots": [4],
        "seeds": 5,
        "caches": ("flowers5", "pbc8"),
        "views": 4,
    },
    "larger": {"student": "larger", "methods": ("labels", KD, POOL), "shots": [4], "seeds": 3},
    "vit": {"student": "vit", "methods": ("labels", KD, POOL), "shots": [4], "seeds": 3},
    "lite0": {
        "student": "lite0",
        "methods": ("labels", KD, POOL),
        "shots": [4],
        "seeds": 3,
        "caches": ("flowers5", "pbc8"),
    },
}


def main(given: list[str] | None = None) -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(required=True)
    commands.add_parser("plan").set_defaults(command=lambda _: plan())
    targets = commands.add_parser("targets")
    targets.add_argument("--stores", type=pathlib.Path, required=True)
    targets.set_defaults(command=make_targets)
    run = commands.add_parser("run")
    run.add_argument("--stores", type=pathlib.Path, required=True)
    run.add_argument("--part", choices=PARTS, required=True)
    run.add_argument("--cache", choices=CACHES, required=True)
    run.add_argument("--seeds", type=int, help="the first so many of the part's seeds")
    run.add_argument("--cells", help="i/n, as tcs fewshot has it")
    run.set_defaults(command=run_part)
    commands.add_parser("collect").set_defaults(command=lambda _: collect())
    arguments = parser.parse_args(given)
    arguments.command(arguments)


def recipe_of(part: str, cache_name: str, seeds: int | None = None) -> tuple[dict[str, Any], str]:
    """(recipe, name of its folder) of one part on one cache; paths are relative to the folder of the stores."""
    given = PARTS[part]
    student = given.get("student", "small")
    small = 32 if cache_name.startswith("cifar10") else 64
    options: dict[str, Any] = {"img_size": small, "steps": 1600 if small == 32 else 400, "batch_size": 128, "lr": 0.005}
    model, folder = {"small": SMALL, "larger": LARGER, "vit": VITS[small], "lite0": LITE0}[student], cache_name
    if student == "vit":
        options, folder = options | {"lr": 0.001}, f"{cache_name}-vit"
    if student == "lite0":
        options, folder = (
            options
            | {
                "img_size": 128,
                "steps": 100,
                "batch_size": 64,
                "lr": 0.001,
                "student_checkpoint": f"{LITE0}.safetensors",
            },
            f"{cache_name}-lite0",
        )
    views = f"-views{given['views']}" if "views" in given else ""
    recipe = {
        "train": f"{cache_name}{views}-train.store",
        "test": f"{cache_name}-test.store",
        "students": [model],
        "methods": [_method(method, cache_name, options["steps"]) for method in given["methods"]],
        "shots": list(given["shots"]),
        "seeds": list(range(min(given["seeds"], seeds or given["seeds"]))),
        "unlabelled": ["all"],
        "references": [] if views else REFERENCES,
        "options": options,
        "primary": None if views else PRIMARY,
    }
    return recipe, folder + views


def _method(method: Any, cache_name: str, steps: int) -> Any:
    """The method as a recipe has it: targets by their file, and shares of the steps as steps."""
    if isinstance(method, str):
        return method
    given = dict(method)
    if "targets" in given:
        given["targets"] = f"{cache_name}-{given['targets']}.h5"
    if "steps" in given:
        given["steps"] = round(given["steps"] * steps)
    return given


def make_targets(arguments: argparse.Namespace) -> None:
    """Coordinates and hash bits beside the stores that have rows which read them."""
    for cache_name in WITH_TARGETS:
        path = arguments.stores / f"{cache_name}-train.store"
        store = cache.open(path)
        (readout,) = store.readouts
        teacher = teacher_identity_of(store, readout)
        for name, (method, components) in AXES.items():
            place = arguments.stores / f"{cache_name}-{name}.safetensors"
            system = fit_coordinates(
                store.features(),
                method=method,
                components=components,
                seed=42,
                store_identity=store.identity,
                teacher_identity=teacher,
                readout=readout,
            )
            save_coordinates(place, system, {})
            out = str(place.with_suffix(".h5"))
            fit_targets(TargetsConfig(store=str(path), coordinates=str(place), out=out))
            say(out)


def plan() -> None:
    """Print what each part trains."""
    for part, given in PARTS.items():
        for cache_name in given.get("caches", CACHES):
            recipe, folder = recipe_of(part, cache_name)
            cells = len(recipe["methods"]) * len(recipe["shots"]) * len(recipe["seeds"])
            say(f"{part:13} {folder:22} {cells:3} cells of {recipe['options']['steps']} steps: {recipe['students'][0]}")


def run_part(arguments: argparse.Namespace) -> None:
    """Run the cells that the part's folder lacks."""
    recipe, folder = recipe_of(arguments.part, arguments.cache, arguments.seeds)
    out = (RESULTS / folder).resolve()
    with tempfile.TemporaryDirectory() as scratch:
        path = pathlib.Path(scratch) / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe, sort_keys=False))
        os.chdir(arguments.stores)
        raise SystemExit(fewshot(FewshotConfig(recipe=str(path), out=str(out), cells=arguments.cells)))


def collect() -> list[dict[str, Any]]:
    """The rows of all folders, each with its data set in front, also written to results.csv."""
    rows = [
        row | {"dataset": next(name for name in CACHES if folder.name.startswith(name))}
        for folder in sorted(path.parent for path in RESULTS.glob("*/results.csv"))
        for row in load_table(folder / "results.csv")
    ]
    save_table(RESULTS / "results.csv", rows)
    say(f"{len(rows)} rows, {sum(row['status'] != 'ok' for row in rows)} of them failed.")
    return rows


if __name__ == "__main__":
    main()
