"""`tcs train` with labels spread over the pool: what is read, what becomes of it without a pool, and that it folds.

Legend: N rows of the store, n of the run, M labelled, K coordinates, C classes.
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
from artefacts import CLASSES, DIMS, make_store, make_targets
from safetensors.torch import load_file
from view_store import ROWS, VIEWS, write_view_store

import cache
from tcs.augmentation.pixels import normalise
from tcs.config.train import TrainConfig
from tcs.distributed.collectives import ALONE
from tcs.errors import ArtefactError, DataError
from tcs.methods.named import METHODS
from tcs.students.student import Student, normalisation
from tcs.training.data import RunData, open_data
from tcs.training.jobs import Job, plan_jobs
from tcs.training.loading import load_rows
from tcs.training.soft_labels import fit_pool_labels, options_of, pool_labels
from tcs.training.stream import open_streams
from tcs.training.train import train

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"
CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    make_store(tmp_path / "train.store")
    return tmp_path


def config(folder: pathlib.Path, **options: Any) -> TrainConfig:
    defaults = {"store": str(folder / "train.store"), "out": str(folder / "run"), "models": (STUDENT,), "shots": 2}
    defaults |= {"steps": 4, "batch_size": 16, "img_size": 16, "seed": 3}
    return TrainConfig.from_options(defaults | options)


def planned(folder: pathlib.Path, **options: Any) -> tuple[Job, RunData]:
    chosen = config(folder, **options)
    data = open_data(chosen.store, chosen.targets)
    return plan_jobs(chosen, data)[0], data


def record_of(path: pathlib.Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "config.json").read_text())
    return found


@pytest.mark.parametrize("with_targets", [False, True])
def test_the_default_is_tcs_pool_with_and_without_targets(folder: pathlib.Path, with_targets: bool) -> None:
    targets = str(make_targets(folder)) if with_targets else None
    (path,) = train(config(folder, targets=targets))
    record, chosen = record_of(path), METHODS["tcs-pool"]
    assert (record["method"]["loss"], record["method"]["head"]) == (chosen.loss, chosen.head)
    assert record["coordinates"]["from"] == ("targets" if with_targets else "store")
    assert record["coordinates"]["components"] == (8 if with_targets else DIMS)
    assert record["identity"]["default"] == "tcs-pool"
    assert ("coordinates" in record["identity"]) != with_targets


@pytest.mark.parametrize("method", [None, "tcs-pool"])
@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"unlabelled": "none"}, "--unlabelled is none"),
        ({"unlabelled": "0"}, "--unlabelled is 0"),
        ({"shots": None}, "every row has a label"),
    ],
)
def test_without_a_pool_the_default_becomes_labels_and_says_so(
    folder: pathlib.Path, capsys: pytest.CaptureFixture[str], method: str | None, options: dict[str, Any], why: str
) -> None:
    job, _ = planned(folder, method=method, **options)
    assert job.method is METHODS["labels"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"There is no pool to spread labels over ({why}): tcs-pool becomes labels, loss ce."


def test_runs_of_the_first_releases_are_told_from_todays_default(folder: pathlib.Path) -> None:
    """They became `tcs-probe` with targets, and `labels` without: only where that is so still are they the same run."""
    targets = str(make_targets(folder))
    for options, key in (
        ({}, "default"),
        ({"targets": targets}, "default"),
        ({"shots": None}, None),
        ({"shots": None, "targets": targets}, "default"),
        ({"method": "tcs-probe", "targets": targets}, None),
        ({"method": "tcs-pool", "shots": None}, "becomes"),
    ):
        identity = planned(folder, **options)[0].identity
        assert identity.keys() & {"default", "becomes"} == ({key} if key else set()), options
        assert not identity.keys() & {"probe_head", "pool_estimator", "class_prior"}
    changed = planned(folder, method="tcs-pool", pool_estimator="ridge-em")[0].identity
    assert changed["pool_estimator"] == "ridge-em"


def test_a_finished_run_with_a_later_option_is_not_taken_for_one_without(folder: pathlib.Path) -> None:
    options = {"method": "tcs-pool", "steps": 1}
    train(config(folder, pool_estimator="ridge-em", **options))
    with pytest.raises(
        ArtefactError, match=r"was made with pool_estimator ridge-em, this command has None; use another"
    ):
        train(config(folder, **options))


def test_coordinates_of_the_store_are_its_principal_axes(folder: pathlib.Path) -> None:
    job, data = planned(folder)
    features_ND = data.store.features("avg")[:].astype(np.float64)
    centred_ND = features_ND - features_ND.mean(0)
    _, singular_K, axes_KD = np.linalg.svd(centred_ND, full_matrices=False)
    expected_NK = centred_ND @ axes_KD.T / np.sqrt((singular_K**2).sum() / (59 * DIMS))
    z_NK = data.coordinates(None).coordinates_rows(np.arange(len(features_ND)))
    signs_K = np.sign((z_NK * expected_NK).sum(0))
    assert np.allclose(z_NK, expected_NK * signs_K, atol=2e-3)
    assert z_NK.var(0, ddof=1).mean() == pytest.approx(1, rel=1e-4)
    again = open_data(str(folder / "train.store"), None).coordinates(None)
    assert np.array_equal(again.coordinates_rows(np.arange(60)), z_NK)
    assert job.identity["coordinates"] == {
        "method": "pca",
        "components": DIMS,
        "power": 0.0,
        "readout": "avg",
        "fitted_to": data.store.identity,
    }


def test_images_that_axes_were_fitted_to_count_as_seen(folder: pathlib.Path) -> None:
    (path,) = train(config(folder, unlabelled="10"))
    assert record_of(path)["rows"]["all"] == 16
    assert len(np.load(path / "seen.npy")) == 60


def test_rows_learn_the_soft_labels_of_the_head_and_labelled_rows_their_own(folder: pathlib.Path) -> None:
    job, data = planned(folder, method="pool-labels")
    heads = pool_labels(job, data, ALONE)
    rows = load_rows(job, data, CPU, heads)
    head, z_nK = heads["pool"], data.coordinates(None).first_coordinates(job.rows.rows_n)
    scores_nC = head.sharpness * (z_nK.astype(np.float64) @ head.weight_CK.T + head.bias_C)
    shares_nC = np.exp(scores_nC - scores_nC.max(1, keepdims=True))
    expected_nC = shares_nC / shares_nC.sum(1, keepdims=True)
    expected_nC[rows.labelled_m] = np.eye(3)[rows.labels_n[rows.labelled_m]]
    assert rows.pool_labels_nC is not None
    assert np.allclose(rows.pool_labels_nC, expected_nC, atol=1e-6)
    assert rows.coordinates_nK is None
    assert rows.teacher_logits_nC is None
    truth_n = data.store.labels_N[job.rows.rows_n]
    assert (rows.pool_labels_nC.argmax(1).numpy() == truth_n).mean() > 0.9


@pytest.mark.parametrize("estimator", ["average", "ridge"])
def test_a_temperature_softens_the_labels_of_rows_and_not_the_probe_of_kd(folder: pathlib.Path, estimator: str) -> None:
    options = {"loss": "pool + kd", "probe_head": "transductive", "pool_estimator": estimator}
    plain_job, data = planned(folder, **options)
    job, _ = planned(folder, **options, pool_temperature=2.5)
    plain, soft = (load_rows(each, data, CPU, pool_labels(each, data, ALONE)) for each in (plain_job, job))
    assert plain.pool_labels_nC is not None
    assert soft.pool_labels_nC is not None
    power_nC = plain.pool_labels_nC.double() ** (1 / 2.5)
    expected_nC = power_nC / power_nC.sum(1, keepdim=True)
    expected_nC[soft.labelled_m] = torch.eye(3, dtype=torch.float64)[soft.labels_n[soft.labelled_m]]
    assert torch.allclose(soft.pool_labels_nC.double(), expected_nC, atol=1e-5)
    assert torch.equal(soft.teacher_logits_nC, plain.teacher_logits_nC)
    assert job.identity["pool_temperature"] == 2.5
    assert "pool_temperature" not in plain_job.identity


def test_of_several_views_each_has_its_soft_label(tmp_path: pathlib.Path) -> None:
    write_view_store(tmp_path / "train.store")
    job, data = planned(tmp_path, method="tcs-pool")
    heads = pool_labels(job, data, ALONE)
    rows = load_rows(job, data, CPU, heads)
    z_nVK = data.coordinates(None).coordinates_rows(job.rows.rows_n)
    assert rows.pool_labels_nC is not None
    assert rows.pool_labels_nC.shape == (ROWS, VIEWS, 3)
    for view in range(VIEWS):
        expected_nC = np.concatenate([part for _, part in heads["pool"].blocks(z_nVK[:, view])])
        assert np.array_equal(rows.pool_labels_nC[:, view], expected_nC)


@pytest.mark.parametrize("head", ["ridge", "transductive", "logistic"])
def test_the_probe_that_kd_reads_is_the_one_asked_for(folder: pathlib.Path, head: str) -> None:
    job, data = planned(folder, loss="kd", probe_head=head)
    heads = pool_labels(job, data, ALONE)
    logits_nC = load_rows(job, data, CPU, heads).teacher_logits_nC
    assert logits_nC is not None
    if head == "logistic":
        assert heads == {}
        return
    assert heads["probe"].estimator == {"ridge": "ridge", "transductive": "average"}[head]
    z_nK = data.coordinates(None).first_coordinates(job.rows.rows_n)
    expected_nC = heads["probe"].sharpness * heads["probe"].scores(z_nK)
    assert np.allclose(logits_nC, expected_nC, rtol=1e-5, atol=1e-5)
    (path,) = train(config(folder, loss="kd", probe_head=head))
    assert record_of(path)["config"]["probe_head"] == head


@pytest.mark.parametrize("method", ["tcs-pool", "pool-labels", "pool-head"])
def test_it_folds_into_a_plain_timm_model(folder: pathlib.Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    students: list[Student] = []
    folded = Student.folded_state
    monkeypatch.setattr(Student, "folded_state", lambda self: (students.append(self), folded(self))[1])
    (path,) = train(config(folder, method=method))
    model = timm.create_model("resnet18", num_classes=3, layers=(1, 1, 1, 1), channels=(4, 4, 8, 8))
    model.load_state_dict(load_file(path / "folded.safetensors"))
    images = open_data(str(folder / "train.store"), None).resident(np.arange(8), 16)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in normalisation(model))
    with torch.no_grad():
        shown = normalise(images, mean, std)
        expected = students[0].eval()(shown).logits_BC
        assert torch.allclose(model.eval()(shown), expected, atol=1e-5)
    assert (students[0].projection is None) == (method == "pool-labels")


def test_no_label_outside_the_split_is_read(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, data = planned(folder)
    labels_N, split = data.store.labels_N.copy(), job.rows.split.rows_n
    lines = [f"{CLASSES[labels_N[row]]} {data.store.keys[row]}" for row in split]
    (folder / "split.txt").write_text("\n".join(lines) + "\n")
    options = {"shots": None, "split_file": str(folder / "split.txt"), "steps": 3}
    runs = [train(config(folder, out=str(folder / "true"), **options))[0]]
    scrambled_N = np.random.default_rng(0).permutation(labels_N)
    scrambled_N[split] = labels_N[split]
    assert (scrambled_N != labels_N).sum() > 20
    opened = cache.open

    def scrambling(*arguments: Any, **named: Any) -> cache.Store:
        store = opened(*arguments, **named)
        store.labels_N = scrambled_N
        return store

    monkeypatch.setattr(cache, "open", scrambling)
    runs.append(train(config(folder, out=str(folder / "scrambled"), **options))[0])
    heads = [next((run.parent / "pool-labels").iterdir()) for run in runs]
    assert heads[0].name == heads[1].name
    assert heads[0].read_bytes() == heads[1].read_bytes()
    first, second = (load_file(run / "last.safetensors") for run in runs)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_class_without_a_label_gets_no_share(folder: pathlib.Path) -> None:
    job, data = planned(folder, method="tcs-pool")
    kept = job.rows.split.rows_n[data.store.labels_N[job.rows.split.rows_n] != 1]
    object.__setattr__(job.rows.split, "rows_n", kept)
    head = fit_pool_labels(job, data, options_of(job, data, "average"))
    z_nK = data.coordinates(None).first_coordinates(job.rows.rows_n)
    assert (head.soft_labels(z_nK)[:, 1] == 0).all()
    assert np.allclose(head.soft_labels(z_nK).sum(1), 1, atol=1e-6)
    assert set(head.labels_M) == {0, 2}
    object.__setattr__(job.rows.split, "rows_n", kept[data.store.labels_N[kept] == 0])
    with pytest.raises(DataError, match=r"labels of 1 class cannot be spread; there must be two classes or more"):
        fit_pool_labels(job, data, options_of(job, data, "average"))


def test_the_reason_of_a_fallback_is_said_in_one_line(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tcs.pool_labels.spread.objection", lambda *_: "the pool falls into 1.2 of 3 classes in effect")
    for turn in range(2):  # also where the head is read from its file
        train(config(folder, out=str(folder / "run"), models=(STUDENT, f"{STUDENT},act_layer=gelu")[: turn + 1]))
        said = [
            line for line in capsys.readouterr().err.splitlines() if "spread over the pool" in line and "Labels" in line
        ]
        assert said == [
            "Labels are not spread over the pool, its soft labels are those of the ridge probe: the pool falls into 1.2 of 3 "
            "classes in effect."
        ]


def test_a_class_prior_is_followed(folder: pathlib.Path) -> None:
    prior = ("ant=0.6", "bee=0.3", "cow=0.1")
    job, data = planned(folder, method="tcs-pool", class_prior=prior)
    options = options_of(job, data, "average")
    assert (options.balance, options.class_prior) == ("given", (0.6, 0.3, 0.1))
    even = fit_pool_labels(job, data, options_of(planned(folder, method="tcs-pool")[0], data, "average"))
    head = fit_pool_labels(job, data, options)
    z_nK = data.coordinates(None).first_coordinates(job.rows.rows_n)
    assert head.soft_labels(z_nK).mean(0)[0] > even.soft_labels(z_nK).mean(0)[0] + 0.005


def count_spreads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The estimators of every call of `spread_labels` from now on."""
    from tcs.training import soft_labels

    calls: list[str] = []
    spread: Callable[..., Any] = soft_labels.spread_labels
    monkeypatch.setattr(
        soft_labels, "spread_labels", lambda *given: (calls.append(given[-1].estimator), spread(*given))[1]
    )
    return calls


def test_a_dry_run_writes_no_labels(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count_spreads(monkeypatch)
    train(config(folder, dry_run=True))
    assert calls == ["average"]
    assert not (folder / "run").exists()


def test_streams_of_a_method_without_spread_labels_write_none(folder: pathlib.Path) -> None:
    job, data = planned(folder, method="labels")
    assert len(open_streams([job], data, CPU, ALONE)) == 1
    assert not (folder / "run").exists()


@pytest.mark.parametrize("options", [{"method": "pool-labels"}, {"loss": "kd + 0.1*ce", "probe_head": "ridge"}])
def test_a_run_in_the_coordinates_of_other_targets_is_another_run(
    folder: pathlib.Path, options: dict[str, Any]
) -> None:
    first = make_targets(folder)
    other = make_targets(folder, method="random")
    identities = [planned(folder, targets=str(path), **options)[0].identity for path in (first, other)]
    assert identities[0]["targets_identity"] != identities[1]["targets_identity"]
    assert None not in [identity["targets_identity"] for identity in identities]
    plain = [planned(folder, targets=str(path), method="labels")[0].identity for path in (first, other)]
    assert plain[0] == plain[1]  # reads neither
