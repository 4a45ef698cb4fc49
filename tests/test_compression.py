"""Heads on compressed features against heads fitted on the projected rows by hand. N rows, D features, K coordinates."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
import pytest
from artefacts import DIMS, make_store

import cache
from cache.errors import SchemaError
from tcs.config.evaluate import HEADS, PROJECTIONS, TRANSDUCTIVE, ProbeConfig
from tcs.coordinates.selection import rank_coordinates
from tcs.errors import ArtefactError, ConfigError, DataError
from tcs.evaluation.probe import measure_compression, projection_axes
from tcs.probes.gram import gather_gram
from tcs.probes.heads import HEAD_FITS, HeadOptions, SplitRows, fit_head
from tcs.probes.ridge import fit_ridge
from tcs.probes.targets import signed_targets
from tcs.reporting.compression import UNCOMPRESSED, Compression, head_parameters
from tcs.splits.shots import k_shot_split

CLASSES = tuple("abcdefghijkl")  # so many that a few coordinates cannot tell all apart


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("probe")
    make_store(folder / "train.store", rows=240, classes=CLASSES)
    make_store(folder / "test.store", seed=9, rows=96, classes=CLASSES)
    return folder


def measure(folder: pathlib.Path, **options: Any) -> Compression:
    stores = {"store": str(folder / "train.store"), "test": str(folder / "test.store")}
    return measure_compression(ProbeConfig(**{**stores, "dims": (2, 6), **options}))


def cell(result: Compression, method: str, size: int, seed: int = 0) -> dict[str, Any]:
    wanted = {"method": method, "components": size, "seed": seed}
    (row,) = [row for row in result.rows if wanted.items() <= dict(row).items()]
    return dict(row)


def by_hand(folder: pathlib.Path, axes_DK: np.ndarray, rows: np.ndarray | None = None) -> float:
    """Project the rows of both stores, fit with tcs.probes.ridge, count."""
    train, test = cache.open(folder / "train.store"), cache.open(folder / "test.store")
    rows = np.arange(len(train)) if rows is None else rows
    x, y = train.features()[rows].astype(np.float64), train.labels_N[rows]
    probe = fit_ridge(x @ axes_DK, y, 12)
    found = probe.accuracy(test.features()[:].astype(np.float64) @ axes_DK, test.labels_N)
    assert axes_DK.shape[1] > 2 or 15 < found < 90  # neither chance nor all right, which any head might be
    return found


def principal(folder: pathlib.Path) -> np.ndarray:
    """Principal axes (D, D) of all training rows by singular value decomposition."""
    x = cache.open(folder / "train.store").features()[:].astype(np.float64)
    return np.linalg.svd(x - x.mean(0), full_matrices=False)[2].T


def test_every_cell_is_there_once_and_a_fixed_head_is_fitted_once(folder: pathlib.Path) -> None:
    rows = measure(folder).rows
    cells = [(row["method"], row["components"], row["seed"]) for row in rows]
    assert len(set(cells)) == len(cells) == 1 + 2 * 2 + 2 * 2 * 3
    assert {row["seed"] for row in rows if row["method"] in (UNCOMPRESSED, "pca", "selection")} == {0}
    assert {row["seed"] for row in rows if row["method"] == "jl"} == {0, 1, 2}
    few = measure(folder, shots=4).rows  # now a seed draws the split as well
    assert len(few) == (1 + 4 * 2) * 3
    assert len({row["split_id"] for row in few}) == 3
    fixed = measure(folder, shots=4, split_seed=7).rows
    assert len(fixed) == len(rows)
    assert len({row["split_id"] for row in fixed}) == 1


def test_principal_and_uncompressed_heads_equal_heads_on_projected_rows(folder: pathlib.Path) -> None:
    result = measure(folder)
    axes = principal(folder)
    for size in (2, 6):
        assert cell(result, "pca", size)["top1"] == pytest.approx(by_hand(folder, axes[:, :size]), abs=1e-3)
    assert cell(result, UNCOMPRESSED, DIMS)["top1"] == pytest.approx(by_hand(folder, np.eye(DIMS)), abs=1e-3)
    assert {row["labelled"] for row in result.rows} == {240}
    assert {row["shots"] for row in result.rows} == {"all"}


def test_selection_is_the_elimination_on_principal_axes(folder: pathlib.Path) -> None:
    train = cache.open(folder / "train.store")
    axes = principal(folder)
    split = k_shot_split(train.keys, train.labels_N, train.classes, 16, 1).rows_n
    kept = rank_coordinates(train.features()[split] @ axes, train.labels_N[split], 12, (2, 6))
    row = cell(measure(folder, shots=16), "selection", 2, seed=1)
    assert row["top1"] == pytest.approx(by_hand(folder, axes[:, kept[2]], split), abs=1e-3)
    assert (row["labelled"], row["shots"]) == (192, 16)


@pytest.mark.parametrize("projection", ["jl", "orthogonal"])
def test_drawn_heads_equal_heads_on_projected_rows(folder: pathlib.Path, projection: str) -> None:
    result = measure(folder, projections=(projection,), shots=4, seeds=(5,))
    train = cache.open(folder / "train.store")
    split = k_shot_split(train.keys, train.labels_N, train.classes, 4, 5).rows_n
    for axes in projection_axes(projection, 5, (6, 2), gram_of(train, split), None):
        row = cell(result, projection, axes.shape[1], 5)
        assert row["top1"] == pytest.approx(by_hand(folder, axes, split), abs=1e-3)


def gram_of(store: cache.Store, rows: np.ndarray) -> Any:
    x, y = store.features()[rows], signed_targets(store.labels_N[rows], 12)
    return gather_gram([(x, y)], len(rows))


def test_gaussian_axes_keep_lengths_on_average_and_rotations_are_orthonormal() -> None:
    x = np.random.default_rng(0).normal(size=(50, 300))
    gram = gather_gram([(x, np.ones((50, 2)))], 50)
    (axes_DK,) = projection_axes("jl", 3, (100,), gram, None)
    assert axes_DK.std() == pytest.approx(1 / np.sqrt(100), rel=0.02)
    lengths = np.linalg.norm(x @ axes_DK, axis=1) ** 2 / np.linalg.norm(x, axis=1) ** 2
    assert lengths.mean() == pytest.approx(1, abs=0.05)
    (rotation_DK,) = projection_axes("orthogonal", 3, (100,), gram, None)
    np.testing.assert_allclose(rotation_DK.T @ rotation_DK, np.eye(100), atol=1e-12)
    (other_DK,) = projection_axes("jl", 4, (100,), gram, None)
    assert np.abs(other_DK - axes_DK).max() > 0.1


@pytest.mark.parametrize("head", HEAD_FITS)
def test_a_head_on_a_projection_is_one_linear_map(folder: pathlib.Path, head: str) -> None:
    store = cache.open(folder / "train.store")
    rows = np.arange(120)
    x_ND = store.features()[rows].astype(np.float32)
    split = SplitRows(gram=gram_of(store, rows), x_ND=x_ND, labels_N=store.labels_N[rows], n_classes=12)
    (axes_DK,) = projection_axes("jl", 0, (6,), split.gram, None)
    found = fit_head(head, split, axes_DK, HeadOptions(seed=0, copies=5, device="cpu"))
    merged = found.merged(axes_DK)
    assert found.weight_CK.shape == (12, 6)
    assert merged.weight_CK.shape == (12, DIMS)
    two_steps, one_step = found.logits(x_ND.astype(np.float64) @ axes_DK), merged.logits(x_ND.astype(np.float64))
    np.testing.assert_allclose(one_step, two_steps, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(merged.logits(x_ND), two_steps, rtol=1e-4, atol=1e-4)  # float32, as scored
    assert (one_step.argmax(1) == store.labels_N[rows]).mean() > 0.6


def test_the_table_of_heads_is_that_of_the_options() -> None:
    assert (*HEAD_FITS, TRANSDUCTIVE) == HEADS


def test_other_heads_are_scored_too(folder: pathlib.Path) -> None:
    logistic = measure(folder, head="logistic", projections=("pca",), shots=8, seeds=(0,))
    assert cell(logistic, "pca", 6)["top1"] > 60
    noisy = measure(folder, head="ibm2", projections=("pca",), shots=8, split_seed=0, seeds=(0, 1), copies=5)
    assert len(noisy.rows) == (1 + 2) * 2  # its noise is of the seed, also where split and axes are not
    assert cell(noisy, "pca", 6, 1)["top1"] > 60
    assert (noisy.recipe["copies"], noisy.rows[0]["head"]) == (5, "ibm2")


def test_parameters_of_a_head_worked_by_hand() -> None:
    jl = head_parameters(2048, 128, 1000, "jl")
    assert (jl["params"], jl["params_regenerated"]) == (128 * (2048 + 1000) + 1000, 128 * 1000 + 1000)
    assert (jl["params_merged"], jl["bytes"]) == (2048 * 1000 + 1000, 4 * (128 * 3048 + 1000))
    assert head_parameters(2048, 128, 1000, "pca")["params_regenerated"] == ""
    whole = head_parameters(2048, 2048, 1000, UNCOMPRESSED)
    assert whole["params"] == whole["params_merged"] == 2049 * 1000


def test_compressions_become_dims(folder: pathlib.Path) -> None:
    result = measure(folder, dims=(), compressions=(2, 4.8), projections=("pca",))
    assert result.recipe["dims"] == [12, 5]
    assert cell(result, "pca", 5)["compression"] == 4.8
    with pytest.raises(
        ConfigError, match="--compression is 32, and the features have 24 dims; it must be from 1 to 24"
    ):
        measure(folder, dims=(), compressions=(32,))


def test_without_sizes_those_that_the_features_allow_are_taken(folder: pathlib.Path) -> None:
    assert measure(folder, dims=(), projections=("pca",)).recipe["dims"] == [12, 6, 3, 2]


def test_classes_are_matched_by_name_and_seen_images_are_counted(folder: pathlib.Path) -> None:
    plain = cell(measure(folder, projections=("pca",)), "pca", 6)
    assert (plain["rows"], plain["seen"]) == (96, 0)
    seen = make_store(folder / "seen.store", rows=30, classes=CLASSES)  # the first images of the training store
    assert cell(measure(folder, projections=("pca",), test=str(seen.path)), "pca", 6)["seen"] == len(
        {row.tobytes() for row in seen.hashes_N16} & {row.tobytes() for row in train_hashes(folder)}
    )
    renamed = make_store(folder / "renamed.store", seed=9, rows=96, classes=CLASSES[::-1])
    result = measure(folder, projections=("pca",), test=str(renamed.path))
    truth = np.array([CLASSES.index(renamed.classes[label]) for label in renamed.labels_N])
    train = cache.open(folder / "train.store")
    axes = principal(folder)[:, :6]
    probe = fit_ridge(train.features()[:] @ axes, train.labels_N, 12)
    assert cell(result, "pca", 6)["top1"] == pytest.approx(
        probe.accuracy(renamed.features()[:] @ axes, truth), abs=1e-3
    )
    make_store(folder / "more.store", seed=9, classes=("a", "dog"))
    with pytest.raises(DataError, match="has classes that the training store lacks: dog"):
        measure(folder, test=str(folder / "more.store"))


def train_hashes(folder: pathlib.Path) -> np.ndarray:
    return cache.open(folder / "train.store").hashes_N16


def test_a_map_is_averaged_over_its_positions(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, rows, seed in (("train", 240, 0), ("test", 96, 9)):
        make_store(folder / f"{name}-map.store", rows=rows, seed=seed, grid=(2, 3), classes=CLASSES)
    options = {"store": str(folder / "train-map.store"), "test": str(folder / "test-map.store")}
    row = cell(measure(folder, projections=("pca",), **options), "pca", 6)
    assert row["top1"] > 60
    assert "readout avg is a map of 2 x 3 positions: their average is probed." in capsys.readouterr().err


def test_the_cost_is_said_first(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    measure(folder, shots=4)
    said = capsys.readouterr().err
    assert "240 rows x 24 dims of readout avg to read, 48 of them with a label in use; 27 ridge heads; 96 rows" in said


def test_a_run_is_deterministic(folder: pathlib.Path) -> None:
    first, again = (
        [{key: value for key, value in row.items() if key != "fit_s"} for row in measure(folder, shots=2).rows]
        for _ in range(2)
    )
    assert first == again


def test_stores_that_cannot_be_probed_are_refused(folder: pathlib.Path) -> None:
    with pytest.raises(DataError, match="train and test are both store"):
        measure(folder, test=str(folder / "train.store"))
    with pytest.raises(ConfigError, match="--dims is 25, and the features have 24 dims; it must be from 1 to 24"):
        measure(folder, dims=(25,))
    with pytest.raises(SchemaError, match="no readout 'cls'; it has avg"):
        measure(folder, readout="cls")
    bare = make_store(folder / "bare.store", seed=3, labelled=False)
    for option in ("store", "test"):
        with pytest.raises(DataError, match=r"bare\.store has no labels, and a head needs them"):
            measure(folder, **{option: str(bare.path)})
    viewed = make_store(folder / "viewed.store", seed=3, views=2)
    with pytest.raises(DataError, match=r"viewed\.store holds 2 augmented views of each image"):
        measure(folder, store=str(viewed.path))
    other = make_store(folder / "other.store", seed=3, teacher="another")
    with pytest.raises(ArtefactError, match="are of different teachers or preprocessing for the readout avg"):
        measure(folder, test=str(other.path))
    narrow = make_store(folder / "narrow.store", seed=3, dims=8)
    with pytest.raises(ArtefactError, match=r"train\.store has 24 dims of the readout avg and .*narrow\.store has 8"):
        measure(folder, test=str(narrow.path))
    with pytest.raises(DataError, match="fewer than the 500 shots asked"):
        measure(folder, shots=500)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"projections": ("pcb",)}, r"--projection is 'pcb'; it must be one of .* Did you mean pca"),
        ({"projections": ()}, "--projection is missing"),
        ({"projections": ("jl", "jl")}, "--projection names jl, jl; each may stand there once"),
        ({"head": "rigde"}, "--head is 'rigde'.*Did you mean ridge"),
        ({"compressions": (2.0,)}, "--dims and --compression exclude each other"),
        ({"dims": (0,)}, "--dims is 0; it must be 1 or more"),
        ({"dims": (), "compressions": (0.5,)}, "--compression is 0.5; it must be 1 or more"),
        ({"seeds": ()}, "--seed is missing"),
        ({"seeds": (1, 1)}, "--seed names 1, 1; each may stand there once"),
        ({"shots": 0}, "--shots is 0; it must be 1 or more"),
        ({"shots": 1, "split_file": "f"}, "--shots and --split-file exclude each other"),
        ({"split_seed": 1}, "--split-seed is 1, and no split is drawn"),
        ({"copies": 0}, "--copies is 0"),
    ],
)
def test_options_without_sense_are_refused(options: dict[str, Any], message: str) -> None:
    sound = ProbeConfig(store="a", test="b", dims=(2,))
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(sound, **options)


def test_all_projections_are_the_default() -> None:
    assert ProbeConfig(store="a", test="b").projections == PROJECTIONS
