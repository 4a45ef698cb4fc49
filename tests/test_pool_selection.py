"""Selection by the soft labels of a pool: against rounds written out by hand, and through tcs fit and tcs train.

Legend: N rows of the pool, M labelled, K coordinates, C classes.
"""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
from artefacts import CLASSES, make_store, make_targets
from sklearn.linear_model import Ridge

from tcs.config.coordinates import FitConfig
from tcs.config.train import TrainConfig
from tcs.coordinates.described import describe
from tcs.coordinates.fit import fit
from tcs.coordinates.pool_selection import LabelledPool, select_from_pool, soft_gram
from tcs.coordinates.selection import Selection, rank_from_gram
from tcs.coordinates.system import load_coordinates
from tcs.errors import ArtefactError, ConfigError, DataError
from tcs.pool_labels.options import PoolLabelOptions
from tcs.splits.shots import k_shot_split
from tcs.training.data import open_data
from tcs.training.jobs import plan_jobs
from tcs.training.train import train

TELLING = (3, 11, 17)
OPTIONS = PoolLabelOptions(seed=5)
STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"


def pool(rows: int = 600, dims: int = 20, labelled: int = 1) -> LabelledPool:
    """Three classes that only the coordinates TELLING tell apart; `labelled` rows a class have a label."""
    generator = np.random.default_rng(0)
    labels = np.arange(rows) % 3
    z = generator.normal(size=(rows, dims)) * np.linspace(1.2, 0.8, dims)
    z[:, TELLING] += 6 * np.eye(3)[labels]
    return LabelledPool(
        z_NK=z.astype(np.float32),
        labelled_M=np.arange(3 * labelled),
        labels_M=np.arange(3 * labelled) % 3,
        n_classes=3,
    )


def soft_labels(made: LabelledPool) -> np.ndarray:
    labels = made.spread(OPTIONS)
    p = labels.soft_labels(made.z_NK).astype(float)
    p[made.labelled_M] = np.eye(3)[made.labels_M]
    return p


def eliminated_by_hand(made: LabelledPool, sizes: tuple[int, ...]) -> list[int]:
    """Drop the weakest by sum_c W_ck^2 var(z_k) with scikit-learn's ridge of 2 P - 1; only the penalty comes from our probe."""
    p, active, gram = soft_labels(made), list(range(made.z_NK.shape[1])), soft_gram(made, made.spread(OPTIONS))
    for size in sizes:
        penalty = gram.kept(np.array(active)).ridge()[2]
        weight = Ridge(alpha=penalty, solver="svd").fit(made.z_NK[:, active], 2 * p - 1).coef_
        score = (weight**2).sum(0) * made.z_NK[:, active].var(0)
        active = sorted(active[k] for k in sorted(range(len(active)), key=lambda k: -score[k])[:size])
    return active


def test_the_rounds_follow_the_formula() -> None:
    made = pool()
    found = rank_from_gram(soft_gram(made, made.spread(OPTIONS)), (10,))[10]
    assert found.tolist() == eliminated_by_hand(made, (16, 13, 10))


def test_one_label_a_class_finds_the_telling_coordinates() -> None:
    selection = select_from_pool(pool(), OPTIONS, "digest", minimum=3)
    assert (selection.method, selection.split_digest) == ("pool", "digest")
    assert set(TELLING) <= set(selection.active_k.tolist())
    assert len(selection.active_k) < 10
    assert (np.diff(selection.active_k) > 0).all()
    at_three = selection.history[-1]
    assert at_three["size"] == 3
    assert at_three["mean"] > 95 > at_three["spectrum_mean"]
    assert [entry["size"] for entry in selection.history] == [20, 16, 13, 10, 8, 6, 5, 4, 3]
    dropped = [k for entry in selection.history for k in entry["dropped"]]
    assert sorted([*dropped, *TELLING]) == list(range(20))
    assert "soft labels of 600 rows, spread over the pool" in selection.note
    assert "agreement on 119 rows put aside" in selection.note


def test_the_smallest_size_within_one_error_of_the_best_agreement_is_taken() -> None:
    selection = select_from_pool(pool(), OPTIONS, "digest", minimum=3)
    best = max(selection.history, key=lambda entry: entry["mean"])
    enough = [entry["size"] for entry in selection.history if entry["mean"] >= best["mean"] - best["stderr"]]
    assert len(selection.active_k) == min(enough)
    for entry in selection.history:
        share = entry["mean"] / 100
        assert entry["stderr"] == pytest.approx(100 * np.sqrt(share * (1 - share) / 119), abs=1e-9)


def test_no_row_put_aside_helps_to_choose_what_it_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """The labels of the history are spread over the other rows alone, and their probes are fitted to those."""
    seen: list[int] = []
    spread = LabelledPool.spread
    monkeypatch.setattr(
        LabelledPool, "spread", lambda self, options: seen.append(len(self.z_NK)) or spread(self, options)
    )
    select_from_pool(pool(), OPTIONS, "digest")
    assert seen == [600 - 119, 600]


def test_a_pool_without_some_rows_keeps_its_labels() -> None:
    made = dataclasses.replace(pool(), labelled_M=np.array([30, 100, 200]))
    rest = made.without(np.array([0, 50, 150, 250]))
    np.testing.assert_array_equal(rest.labelled_M, [29, 98, 197])
    np.testing.assert_array_equal(rest.z_NK[rest.labelled_M], made.z_NK[made.labelled_M])
    assert len(rest.z_NK) == 596


def test_it_is_a_function_of_the_seed_and_travels_as_json() -> None:
    first, again = (select_from_pool(pool(), OPTIONS, "digest") for _ in range(2))
    assert first.to_json() == again.to_json()
    assert Selection.from_json(json.loads(json.dumps(first.to_json()))).to_json() == first.to_json()
    other = select_from_pool(pool(), dataclasses.replace(OPTIONS, seed=6), "digest")
    assert other.history != first.history


def test_labels_that_are_not_spread_are_named_in_the_note() -> None:
    options = PoolLabelOptions(estimator="ridge", seed=5)
    assert "spread over the pool" in select_from_pool(pool(), options, "d").note
    noise = np.random.default_rng(1).standard_normal((400, 20)).astype(np.float32)
    made = LabelledPool(z_NK=noise, labelled_M=np.arange(40), labels_M=np.arange(40) % 2, n_classes=2)
    reason = made.spread(OPTIONS).reason
    selection = select_from_pool(made, OPTIONS, "d")
    assert (f"those of the ridge probe ({reason})" in selection.note) == (reason is not None)


def test_too_few_rows_without_a_label_are_refused() -> None:
    with pytest.raises(DataError, match=r"the pool has 57 rows without a label, .* 20 or more; .*--selection ridge"):
        select_from_pool(pool(rows=60), OPTIONS, "digest")


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    make_store(tmp_path / "train.store", rows=180)
    return tmp_path


def fit_config(folder: pathlib.Path, **options: object) -> FitConfig:
    defaults = {"store": str(folder / "train.store"), "out": str(folder / "c.safetensors"), "components": 12}
    return FitConfig(**(defaults | {"ceiling_shots": (), "selection": "pool", "shots": 1} | options))  # type: ignore[arg-type]


def test_fit_stores_the_selection_of_its_split_and_a_rerun_does_nothing(
    folder: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system = fit(fit_config(folder))
    assert system.selection is not None
    assert system.selection.method == "pool"
    assert load_coordinates(folder / "c.safetensors").to_json() == system.to_json()
    assert f"selection (pool): {len(system.selection.active_k)} coordinates" in describe(system)
    fit(fit_config(folder))
    assert "nothing to do" in capsys.readouterr().err
    with pytest.raises(ArtefactError, match="selection is pool there"):
        fit(fit_config(folder, selection="ridge"))


def test_a_selection_from_the_pool_without_labels_is_refused(folder: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match="--selection is pool, and no row is named that has a label; give --shots"):
        fit_config(folder, shots=None)
    with pytest.raises(ConfigError, match="--selection is 'gates'; it must be one of ridge, pool"):
        fit_config(folder, selection="gates")


def config(folder: pathlib.Path, **options: object) -> TrainConfig:
    defaults = {"store": str(folder / "train.store"), "out": str(folder / "run"), "models": (STUDENT,), "shots": 1}
    defaults |= {"steps": 12, "batch_size": 16, "img_size": 16, "seed": 3, "selection": "pool", "method": "tcs"}
    return TrainConfig.from_options(defaults | options)


@pytest.mark.parametrize("with_targets", [False, True])
def test_a_run_selects_by_its_pool_and_records_the_rounds(folder: pathlib.Path, with_targets: bool) -> None:
    targets = str(make_targets(folder)) if with_targets else None
    chosen = config(folder, targets=targets)
    data = open_data(chosen.store, chosen.targets)
    (job,) = plan_jobs(chosen, data)
    split = k_shot_split(data.store.keys, data.store.labels_N, data.store.classes, 1, 3)
    z_nK = data.coordinates(None).first_coordinates(job.rows.rows_n)
    labelled = np.sort(split.rows_n)
    made = LabelledPool(
        z_NK=z_nK,
        labelled_M=np.searchsorted(job.rows.rows_n, labelled),
        labels_M=data.store.labels_N[labelled],
        n_classes=3,
    )
    expected = select_from_pool(made, PoolLabelOptions(seed=3), split.digest)
    assert job.selection is not None
    assert job.selection.to_json() == expected.to_json()
    (path,) = train(chosen)
    record = json.loads((path / "config.json").read_text())
    assert record["identity"]["selected"] == expected.active_k.tolist()
    assert record["selection"]["history"] == [dict(entry) for entry in expected.history]
    assert record["selection"]["method"] == "pool"


def test_no_label_outside_the_split_is_read(folder: pathlib.Path) -> None:
    chosen = config(folder)
    data = open_data(chosen.store, None)
    (job,) = plan_jobs(chosen, data)
    hidden = np.full(len(data.store), -1, np.int64)
    rows_n = job.rows.split.rows_n
    hidden[rows_n] = data.store.labels_N[rows_n]
    data.store.__dict__["labels_N"] = hidden
    (again,) = plan_jobs(chosen, data, job.rows.split)
    assert again.selection is not None
    assert again.selection.to_json() == job.selection.to_json()  # type: ignore[union-attr]


def test_the_estimator_and_the_prior_of_the_run_spread_the_labels(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[PoolLabelOptions] = []

    def select(made: LabelledPool, options: PoolLabelOptions, digest: str) -> Selection:
        given.append(options)
        return select_from_pool(made, options, digest)

    monkeypatch.setattr("tcs.training.probe_start.select_from_pool", select)
    shares = [f"{name}={share}" for name, share in zip(CLASSES, (0.2, 0.3, 0.5), strict=True)]
    for options in ({}, {"pool_estimator": "ridge-em", "class_prior": tuple(shares)}):
        chosen = config(folder, **options)
        plan_jobs(chosen, open_data(chosen.store, None))
    assert given == [
        PoolLabelOptions(seed=3),
        PoolLabelOptions(estimator="ridge-em", balance="given", class_prior=(0.2, 0.3, 0.5), seed=3),
    ]


def test_without_unlabelled_rows_it_is_refused(folder: pathlib.Path) -> None:
    with pytest.raises(DataError, match="the pool has 0 rows without a label"):
        train(config(folder, unlabelled="none", shots=8))
