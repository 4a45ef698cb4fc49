"""Whatever was scored or measured by labels says which: those that a store was given afterwards are told apart, too."""

import pathlib

from artefacts import CLASSES, make_store
from finished import RESNET, save_student

import cache
from tcs.config.evaluate import EvalConfig
from tcs.config.export import ExportConfig
from tcs.config.pixels import PixelRules
from tcs.evaluation.students import evaluate
from tcs.export.folders import timm_folder
from tcs.export.metadata import describe
from tcs.export.orders import make_orders
from tcs.export.sources import open_pictures


def test_scores_exports_and_measurements_name_the_labels_that_came_later(tmp_path: pathlib.Path) -> None:
    store = make_store(tmp_path / "x.store")
    student = save_student(tmp_path / "run", RESNET, store, classes=CLASSES, size=16)
    (tmp_path / "exported").mkdir()
    for name, data in timm_folder(student, describe(student, {}, preprocess_in_graph=False)).items():
        (tmp_path / "exported" / name).write_bytes(data)

    def names() -> list[str]:
        """What each of them says of the store."""
        path = str(store.path)
        scored = [evaluate(EvalConfig(run=str(tmp_path / model), store=path))[0] for model in ("run", "exported")]
        config = ExportConfig(run=str(tmp_path / "run"), to="hf", out=str(tmp_path / "hf"), test=path)
        (order,) = make_orders(config)
        return [
            *(str(row["cache_id"]) for row in scored),
            order.metadata["tested_on"],
            open_pictures(path, (), PixelRules()).identity,
        ]

    assert names() == 4 * [store.identity]
    first = store.keys[0]
    other = next(name for name in CLASSES if name != store.classes[store.labels_N[0]])
    cache.set_labels(store.path, {first: other}, source={"by": "a test"})
    found = cache.open(store.path).labelled_identity
    assert found != store.identity
    assert names() == 4 * [found]
