"""The recipe_id of a row follows what its method or reference reads of the recipe, and nothing else."""

import yaml

import cache
from tcs.grid.ledger import Origin, recipe_id, settings_of
from tcs.grid.recipe import plan_cells
from tcs.grid.recipe_file import load_grid
from tcs.grid.run import uses_targets


def recipe_ids(folder, targets="t1", **changes):
    """The recipe_id of the cells of a grid, by method and pool."""
    recipe = {
        "train": "a.store",
        "test": "b.store",
        "targets": "t.h5",
        "students": ["resnet18"],
        "shots": [4],
        "seeds": [0],
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe | {"unlabelled": ["none", 20]} | changes))
    grid = load_grid(path)
    settings = settings_of(grid, Origin(train="a", test="b", targets={"t.h5": targets}))
    return {
        (cell.method.label, cell.unlabelled): recipe_id(settings, cell, reads_targets=uses_targets(grid, cell))
        for cell in plan_cells(grid)
    }


METHODS = ["labels", "tcs-probe", "tcs-pool", "pool-labels", {"label": "kd", "head": "linear", "loss": "ce + kd"}]


def test_a_recipe_id_changes_with_targets_where_they_are_read(tmp_path):
    first, second = (recipe_ids(tmp_path, targets, methods=METHODS) for targets in ("t1", "t2"))
    changed = {cell for cell in first if first[cell] != second[cell]}
    reading = {(name, pool) for name in ("tcs-probe", "tcs-pool", "pool-labels") for pool in ("none", "20")}
    assert changed == reading - {("tcs-pool", "none")}  # which is trained as `labels` where there is no pool
    kd = {"methods": METHODS[-1:], "references": [], "options": {"probe_head": "ridge"}}  # the probe of the coordinates
    assert recipe_ids(tmp_path, "t1", **kd) != recipe_ids(tmp_path, "t2", **kd)


def test_references_have_recipe_ids_of_their_own_that_follow_what_they_read(tmp_path):
    asked = [
        "teacher-probe",
        "teacher-knn",
        "ibm2",
        "teacher-transductive",
        "same-pixels",
        "teacher-all-labels",
        "all-labels",
    ]

    def of(**options):
        return recipe_ids(tmp_path, methods=["labels"], references=asked, options={"img_size": 16, **options})

    plain = of()
    names = {*asked, "labels"}
    assert {name for name, _ in plain} == names
    assert len(set(plain.values())) == len(names)
    longer, held_out = of(steps=9), of(held_out=3)
    assert {name for name, pool in plain if plain[name, pool] != longer[name, pool]} == {
        "same-pixels",
        "labels",
        "all-labels",
    }
    assert {name for name, pool in plain if plain[name, pool] != held_out[name, pool]} == {
        *("same-pixels", "labels", "all-labels", "teacher-transductive"),
    }


def test_only_a_reference_that_averages_over_teachers_is_told_from_those_of_earlier_releases(tmp_path):
    recipe = {"train": "a.store", "test": "b.store", "students": ["resnet18"], "methods": ["labels"], "shots": [4]}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe | {"unlabelled": [20]}))
    grid = load_grid(path)
    settings = settings_of(grid, Origin(train="a", test="b", targets={}))
    changed = {
        cell.method.label
        for cell in plan_cells(grid)
        if recipe_id(settings, cell, reads_targets=False)
        != recipe_id(settings, cell, reads_targets=False, pool_teachers="each")
    }
    assert changed == {"teacher-transductive"}
    reference = next(cell for cell in plan_cells(grid) if cell.method.label == "teacher-transductive")
    before = cache.digest_of_json({"reference": "teacher-transductive", "options": {"held_out": 0}})
    assert recipe_id(settings, reference, reads_targets=False, pool_teachers="joined") == before
