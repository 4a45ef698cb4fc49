"""What a report shows beside a grid's own files, and that it does without whatever is gone."""

import io
import json
import shutil

import pytest
import yaml
from artefacts import make_store, make_targets
from grid_folders import grid_row, usual_rows, write_predictions, write_rows
from PIL import Image

from tcs.errors import ArtefactError, ConfigError
from tcs.grid.gathered import gather
from tcs.grid.reported import write_report
from tcs.grid.thumbnails import SIDE

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"


@pytest.fixture
def grid(tmp_path):
    store = make_store(tmp_path / "train.store")
    make_store(tmp_path / "test.store", seed=9, rows=30)
    make_targets(tmp_path)
    recipe = {
        "train": str(tmp_path / "train.store"),
        "test": str(tmp_path / "test.store"),
        "targets": str(tmp_path / "pca.h5"),
        "students": [STUDENT],
        "methods": ["labels", "tcs-probe"],
        "shots": [1, 4],
        "seeds": [0, 1],
        "references": ["teacher-probe"],
        "options": {"img_size": 16},
    }
    assert len(store) == 60
    rows = [grid_row(STUDENT, "labels", 1, 0, 50.0)]
    return write_rows(tmp_path / "grid", rows, yaml.safe_dump(recipe))


def test_the_plan_is_that_of_the_recipe(grid):
    planned = gather(grid).planned
    assert len(planned) == 2 * 2 * 3
    assert ("", STUDENT, "labels", "4", "1", "none") in planned
    text = write_report(grid, grid / "report.md").read_text()
    assert text.splitlines()[4].startswith("**This grid is partial: 1 of 12 planned cells have a result; 11 not begun")


def test_references_that_no_recipe_named_count_once_they_are_begun(grid):
    recipe = yaml.safe_load((grid / "recipe.yaml").read_text())
    del recipe["references"]
    (grid / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert {"teacher-probe", "teacher-knn"} <= gather(grid).unasked
    text = write_report(grid, grid / "report.md").read_text()
    assert "1 of 8 planned cells have a result; 7 not begun (tcs-probe: 4, labels: 3)" in text
    write_rows(grid, [grid_row(STUDENT, "labels", 1, 0, 50.0), grid_row("teacher", "teacher-knn", 1, 0, 60.0)])
    assert "2 of 12 planned cells have a result; 10 not begun (tcs-probe: 4, teacher-knn: 3, labels: 3)" in (
        write_report(grid, grid / "report.md").read_text()
    )


def test_a_recipe_that_this_release_does_not_read_tells_no_plan(grid):
    (grid / "recipe.yaml").write_text("primary: [labels, tcs-probe]\nfuture: 1\n")
    assert gather(grid).planned is None
    (grid / "recipe.yaml").unlink()
    assert gather(grid).planned is None


def test_thumbnails_are_small_pictures_of_the_test_store(grid):
    key = "ant/9-0000.png"
    found = gather(grid).thumbnails("", [key, "no/such.png"])
    assert list(found) == [key]
    with Image.open(io.BytesIO(found[key])) as image:
        assert (image.format, image.size) == ("JPEG", (SIDE, SIDE))


def test_a_store_that_moved_leaves_keys(grid, tmp_path):
    beside = gather(grid)
    shutil.rmtree(tmp_path / "test.store")
    assert beside.thumbnails("", ["ant/9-0000.png"]) == {}


def test_coordinates_are_read_through_the_targets(grid, tmp_path):
    axes = gather(grid).axes
    assert [(found.name, found.method) for found in axes] == [("pca.h5", "pca")]
    assert list(axes[0].spectrum) == sorted(axes[0].spectrum, reverse=True)
    (tmp_path / "pca.h5").write_bytes(b"no targets")
    assert gather(grid).axes == ()


def test_a_folder_of_tcs_train_becomes_a_page(tmp_path):
    run = tmp_path / "run"
    (run / "vit").mkdir(parents=True)
    (run / "args.yaml").write_text("# All options\nlr: 0.1\nscale: null\nmodels:\n- vit\n")
    lines = [
        {"step": step, "loss": 5.0 - step, "loss_kd": 3.0 - step, "loss_ce": 2.0, "images_per_s": 100.0}
        for step in range(1, 4)
    ]
    (run / "vit" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4, "lo')
    text = write_report(run).read_text()
    assert "1 student, 3 steps." in text
    assert "Not finished: vit; what is shown is what there is." in text
    assert text.count("<svg") == 2  # the loss, and its terms
    assert "vit ends at 2" in text
    assert "<dt>lr</dt><dd>0.1</dd>" in text
    assert "<dt>scale</dt>" not in text
    with pytest.raises(ConfigError, match=r"r\.md'; of a folder that is no grid its name must end in \.html"):
        write_report(run, tmp_path / "r.md")
    (run / "vit" / "metrics.jsonl").unlink()
    with pytest.raises(ArtefactError, match="holds no log of a student"):
        write_report(run)


def test_a_folder_of_tcs_probe_becomes_a_page(tmp_path):
    def row(method, size, seed, top1):
        facts = {
            "head": "ridge",
            "readout": "avg",
            "shots": 4,
            "labelled": 40,
            "seen": 2,
            "teacher": "r",
            "cache_id": "c",
            "test_id": "t",
        }
        return {"method": method, "components": size, "seed": seed, "top1": top1, **facts}

    rows = [row("uncompressed", 64, 0, 50.0)]
    rows += [
        row(name, size, seed, top1 + seed)
        for name, size, top1 in (("pca", 16, 49.0), ("jl", 16, 40.0))
        for seed in (0, 1, 2)
    ]
    (tmp_path / "probe.json").write_text(json.dumps({"rows": rows, "recipe": {}, "environment": {}}))
    text = write_report(tmp_path).read_text()
    assert "pca keeps the accuracy within one point at 4 times fewer dims." in text
    assert "2 of the scored images are in the training store as well." in text
    assert ">41.0 ± 2.5</td>" in text


def test_rows_that_name_data_sets_make_tables_and_columns_of_their_own(tmp_path):
    recipe = "datasets: {cifar10: {note: Its teacher saw the images.}, flowers5: {}}\n"
    folder = write_rows(tmp_path, usual_rows(datasets=("cifar10", "flowers5")), recipe)
    write_predictions(folder)
    text = write_report(folder).read_text()
    assert "**Note:** cifar10: Its teacher saw the images." in text
    assert "## cifar10: vit, unlabelled pool: none" in text
    assert "## flowers5: vit, unlabelled pool: none" in text
    assert (tmp_path / "report.csv").read_text().startswith("dataset,student,unlabelled,method,shots,n,")
    assert "## Average ranks" in text
    assert "| tcs-pool | 1.00 |\n| kd | 2.00 |\n| labels | 3.00 |" in text
