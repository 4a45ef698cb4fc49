"""The model card of a Hub folder."""

import json
import pathlib
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from artefacts import CLASSES, make_store
from finished import RESNET, save_student
from PIL import Image
from scipy import stats

import cache
from tcs.config.evaluate import EvalConfig
from tcs.config.export import ExportConfig
from tcs.config.pixels import EARLIER, PixelRules
from tcs.evaluation.students import evaluate
from tcs.export import stage
from tcs.export.card import Score, model_card
from tcs.export.folders import load_script
from tcs.export.metadata import describe
from tcs.export.sources import teacher_facts
from tcs.images.decode import decode_image
from tcs.inference.runs import load_student

TEACHER = {
    "name": "vit_small_patch14_dinov2.lvd142m",
    "licence": "apache-2.0",
    "licence_terms": "permissive",
    "licence_according_to": "timm, by its tag",
    "origin_url": "https://example.org/dino",
    "paper_ids": ["arXiv:2304.07193"],
    "weights": "abcd",
}


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("card")
    store = make_store(folder / "train.store")
    student = save_student(folder / "run", RESNET, store, classes=("a|b", "Ähre"), size=16)
    return describe(student, TEACHER, preprocess_in_graph=False)


def card(text: str) -> huggingface_hub.ModelCard:
    return huggingface_hub.ModelCard(text, ignore_metadata_errors=False)


def test_the_teachers_licence_travels(metadata: dict[str, Any]) -> None:
    text = model_card("student", metadata, None)
    data = card(text).data
    assert (data.license, data.base_model, data.library_name) == (
        "apache-2.0",
        "timm/vit_small_patch14_dinov2.lvd142m",
        "timm",
    )
    assert data.pipeline_tag == "image-classification"
    assert "| licence of its weights | apache-2.0 (according to timm, by its tag) |" in text
    assert "None: the folder was written without a test store." in text
    assert "`a\\|b`, `Ähre`" in text  # no cell ends there
    for name in ("fingerprint", "weights", "store_identity", "split_digest"):
        assert f"`{metadata['run'][name]}`" in text


@pytest.mark.parametrize(
    ("licence", "head"),
    [
        ("dinov3-license", {"license": "other", "license_name": "dinov3-license"}),
        ("cc-by-nc-4.0", {"license": "cc-by-nc-4.0"}),
        ("unknown", {"license": "unknown"}),
    ],
)
def test_licences_that_the_hub_does_not_know_keep_their_name(
    metadata: dict[str, Any], licence: str, head: dict[str, str]
) -> None:
    teacher = TEACHER | {"licence": licence, "name": "hf-hub:lab/teacher@v2"}
    found = card(model_card("student", {**metadata, "teacher": teacher}, None)).data.to_dict()
    assert {name: found[name] for name in found if name.startswith("license")} == head
    assert found["base_model"] == "lab/teacher"


def test_a_teacher_that_is_not_recorded_is_called_so(metadata: dict[str, Any]) -> None:
    text = model_card("student", {**metadata, "teacher": {}}, None)
    assert "not recorded: the store that the student was trained on was not at hand" in text
    assert card(text).data.base_model is None


def test_pretrained_students_tell_their_own_start(metadata: dict[str, Any]) -> None:
    run = metadata["run"] | {"pretrained": True, "model": "resnet18.a1_in1k,drop_rate=0.1"}
    text = model_card("student", {**metadata, "run": run}, None)
    assert "timm's pretrained weights of `resnet18.a1_in1k`, licence apache-2.0" in text


@pytest.mark.parametrize(
    "rules", [PixelRules(), PixelRules(orientation=False, background="#204060"), EARLIER], ids=["2", "2 as stored", "1"]
)
def test_the_lines_of_the_card_open_an_image_as_the_student_saw_it(
    metadata: dict[str, Any], rules: PixelRules, tmp_path: pathlib.Path
) -> None:
    plain = {name: value for name, value in metadata["transform"].items() if name != "pixels"}
    told = {**metadata, "transform": plain | rules.entry}
    text = model_card("student", told, None)
    assert f"| from file to pixels | {rules.describe()} |" in text
    exif = Image.Exif()
    exif[0x0112] = 6
    rgba = np.random.default_rng(3).integers(0, 256, (9, 7, 4), dtype=np.uint8)
    Image.fromarray(rgba).save(tmp_path / "odd.png", exif=exif)
    Image.fromarray(rgba[:, :, :3]).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(rgba[:, :, 0]).save(tmp_path / "grey.png")
    (code,) = (block.removeprefix("python\n") for block in text.split("```") if block.startswith("python\n"))
    opening = code[code.index("def open_image") : code.index("with torch")]
    assert load_script(told).endswith(opening.rstrip("\n") + "\n")
    names: dict[str, Any] = {}
    exec("from PIL import Image, ImageOps\n" + opening, names)  # as a reader of the card would
    for name in ("odd.png", "turned.png", "grey.png"):
        expected = np.asarray(decode_image((tmp_path / name).read_bytes(), rules)).astype(int)
        assert np.abs(np.asarray(names["open_image"](tmp_path / name)).astype(int) - expected).max() <= 1
    compile(code, "card", "exec")


def test_scores_have_n_and_an_interval(metadata: dict[str, Any]) -> None:
    score = Score(store="test.store", identity="beef", hits=45, n=50, seen=2)
    text = model_card("student", metadata, score)
    low, high = 100 * wilson(45, 50, -1), 100 * wilson(45, 50, 1)
    assert score.interval == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))
    assert f"| test.store (`beef`) | 50 | 90.0 % | {score.interval[0]} to {score.interval[1]} % |" in text
    assert "One run, one seed. 2 of the images were seen in training." in text
    (result,) = card(text).data.eval_results
    assert (result.metric_value, result.dataset_name, result.dataset_revision) == (90.0, "test.store", "beef")
    assert f"n = 50, 95 % interval {score.interval[0]}" in result.metric_name


def wilson(hits: int, n: int, side: int) -> float:
    """Wilson 1927, solved by hand: the p with |hits / n - p| = z sqrt(p (1 - p) / n)."""
    z, share = float(stats.norm.ppf(0.975)), hits / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    return centre + side * z / (1 + z * z / n) * ((share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5)


def test_the_score_of_a_folder_is_that_of_tcs_eval(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "differences", lambda claims: [0.0])
    store = make_store(tmp_path / "train.store")
    make_store(tmp_path / "test.store", seed=9, rows=30)
    save_student(tmp_path / "run", RESNET, store, classes=CLASSES, size=16)
    test = str(tmp_path / "test.store")
    stage.export_students(ExportConfig(run=str(tmp_path / "run"), to="hf", out=str(tmp_path / "hf"), test=test))
    (row,) = evaluate(EvalConfig(run=str(tmp_path / "run"), store=test))
    (result,) = card((tmp_path / "hf" / "README.md").read_text()).data.eval_results
    assert result.metric_value == pytest.approx(row["top1"], abs=0.01)
    told = json.loads((tmp_path / "hf" / "tcs.json").read_text())
    assert told["tested_on"] == cache.open(test).identity


def test_the_teacher_is_told_by_the_store_that_was_trained_on_alone(tmp_path: pathlib.Path) -> None:
    store = make_store(tmp_path / "train.store")
    other = make_store(tmp_path / "other.store", teacher="another")
    save_student(tmp_path / "run", RESNET, store, classes=CLASSES, size=16)
    (folder,) = (tmp_path / "run").iterdir()
    student = load_student(folder)
    assert teacher_facts(student, store)["name"] == "made-up"
    assert teacher_facts(student, other) == {}


def test_stores_of_other_code_may_tell_anything_of_their_teacher(
    tmp_path: pathlib.Path, metadata: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "train.store")
    identity, told = store.manifest.plan.identity, {"licence": 5, "paper_ids": [1], "origin_url": "https://a"}
    for where, name, value in (
        (identity, "teacher", {"name": "mine", "b": 1}),
        (identity, "teacher_weights", 7),
        (store.manifest.provenance, "teacher", told),
    ):
        monkeypatch.setitem(where, name, value)  # type: ignore[arg-type]
    save_student(tmp_path / "run", RESNET, store, classes=CLASSES, size=16)
    (folder,) = (tmp_path / "run").iterdir()
    facts = teacher_facts(load_student(folder), store)
    assert (facts["name"], facts["weights"], facts["origin_url"]) == ('{"b": 1, "name": "mine"}', "7", "https://a")
    assert not {"licence", "paper_ids"} & facts.keys()
    assert "| name | `{" in model_card("student", {**metadata, "teacher": facts}, None)
