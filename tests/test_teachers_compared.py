"""`tcs probe` with several stores: every number against another way to it, what is refused, and what the verdict claims."""

import itertools
import json

import numpy as np
import pytest
from artefacts import png
from click.testing import CliRunner
from markupsafe import escape

import cache
import tcs
from cache.errors import CacheError
from tcs.cli import group
from tcs.coordinates.axes import effective_rank
from tcs.coordinates.moments import streaming_moments
from tcs.coordinates.vectors import row_vectors
from tcs.errors import ArtefactError, ConfigError, DataError
from tcs.evaluation.teacher_stores import linear_cka
from tcs.probes.ridge import knn_classes
from tcs.reporting.intervals import paired_difference, t_interval
from tcs.reporting.teachers import (
    RIDGE,
    TRANSDUCTIVE,
    TeacherComparison,
    headline,
    lead_of,
    render,
    verdict,
    write_teachers,
)

NAMES = ("ant", "bee", "cow")
TRAIN, TEST = range(60), range(60, 105)
ENVIRONMENT = {"versions": {}, "python": "3", "processor": "p", "cores": 1, "commit": ""}


def rows_of(dims, noise, seed):
    """Features (105, dims) about class centres, the more noise the worse the teacher."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((3, dims))[np.arange(105) % 3] + noise * rng.standard_normal((105, dims))).astype(
        np.float32
    )


def make_pair(folder, name, features_ND, *, order=None, labels=None, images=None, keys=None, names=NAMES):
    """(training store, test store) of a teacher; rows stand in `order`."""
    order = list(range(105)) if order is None else order
    keys = keys or [f"{row:03}.png" for row in range(105)]
    labels = labels or [names[row % 3] for row in range(105)]
    images = images or [png(np.full((2, 2, 3), row, np.uint8)) for row in range(105)]
    whole = folder / f"{name}.store"
    cache.create(
        whole,
        {"avg": features_ND[order]},
        keys=[keys[row] for row in order],
        labels=[labels[row] for row in order],
        images=[images[row] for row in order],
        identity={"teacher": name},
    )
    paths = []
    for part, rows in (("train", TRAIN), ("test", TEST)):
        paths.append(str(folder / f"{name}-{part}.store"))
        cache.subset(whole, paths[-1], keys=[keys[row] for row in rows])
    return tuple(paths)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teachers")
    backwards = list(range(104, -1, -1))
    return make_pair(folder, "good", rows_of(12, 0.7, 0)), make_pair(
        folder, "poor", rows_of(7, 1.5, 1), order=backwards
    )


def config_of(pairs, **options):
    stores, tests = zip(*pairs, strict=True)
    return tcs.CompareConfig(stores=stores, tests=tests, **{"seeds": (0, 1, 2), **options})


@pytest.fixture(scope="module")
def found(pairs):
    return tcs.compare_teachers(config_of(pairs))


def probed(pair, **options):
    """Uncompressed rows of `tcs probe` of one store, seed -> top-1."""
    config = tcs.ProbeConfig(store=pair[0], test=pair[1], projections=("pca",), dims=(2,), **options)
    return {row["seed"]: row["top1"] for row in tcs.probe(config).rows if row["method"] == "uncompressed"}


def test_ridge_probes_and_ceilings_are_those_of_each_store_alone(pairs, found):
    for name, pair in zip(("good", "poor"), pairs, strict=True):
        for shots in (1, 4):
            assert found.by_seed(name, "ridge", shots) == probed(pair, shots=shots)
        assert found.by_seed(name, "ceiling", "all") == {"": next(iter(probed(pair).values()))}


def test_transductive_probes_are_those_in_all_principal_coordinates(pairs, found):
    config = tcs.ProbeConfig(
        store=pairs[0][0], test=pairs[0][1], projections=("pca",), dims=(12,), head="transductive", shots=4
    )
    alone = {row["seed"]: row["top1"] for row in tcs.probe(config).rows if row["method"] == "pca"}
    assert found.by_seed("good", "transductive", 4) == alone


def test_splits_are_the_same_for_all_teachers_whatever_the_order_of_rows(found):
    for shots, seed in itertools.product((1, 4), (0, 1, 2)):
        assert len({row["split_id"] for row in found.rows if (row["shots"], row["seed"]) == (shots, seed)}) == 1


def features_of(path):
    store = cache.open(path)
    order = np.argsort(store.keys)
    return store.features("avg")[order], store.labels_N[order]


def test_neighbours_vote_and_differences_are_paired_by_image(pairs, found):
    right = {}
    for name, (train, test) in zip(("good", "poor"), pairs, strict=True):
        (x_ND, y_N), (x_MD, y_M) = features_of(train), features_of(test)
        right[name] = knn_classes(x_ND, y_N, x_MD) == y_M
        assert found.by_seed(name, "k-NN", "all") == {"": pytest.approx(100 * right[name].mean(), abs=1e-3)}
    told = next(item for item in found.differences if item["measure"] == "k-NN")
    expected = t_interval([100.0 * (int(a) - int(b)) for a, b in zip(right["good"], right["poor"], strict=True)])
    assert (told["mean"], told["half"], told["n"]) == (pytest.approx(expected.mean), pytest.approx(expected.half), 45)


def test_differences_of_few_labels_are_paired_by_split(found):
    told = {(item["measure"], item["shots"]): item for item in found.differences if item["over"] == "splits"}
    assert set(told) == set(itertools.product(("ridge", "transductive"), (1, 4)))
    for (measure, shots), item in told.items():
        expected = paired_difference(found.by_seed("good", measure, shots), found.by_seed("poor", measure, shots))
        assert (item["mean"], item["half"], item["n"]) == (expected.mean, expected.half, 3)


def slow_cka(x_ND, y_NE):
    """By N x N kernels, centred: HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))."""
    rows = len(x_ND)
    centre_NN = np.eye(rows) - 1 / rows
    k, m = (centre_NN @ (z @ z.T) @ centre_NN for z in (x_ND.astype(float), y_NE.astype(float)))
    return np.trace(k @ m) / np.sqrt(np.trace(k @ k) * np.trace(m @ m))


def test_alignment_is_that_of_centred_kernels(pairs, found, monkeypatch):
    (x_ND, _), (y_NE, _) = features_of(pairs[0][0]), features_of(pairs[1][0])
    assert found.cka == [
        {"first": "good", "second": "poor", "cka": pytest.approx(slow_cka(x_ND, y_NE), rel=1e-4), "rows": 60}
    ]
    monkeypatch.setattr("tcs.evaluation.teacher_stores.BLOCK_ROWS", 7)
    x = row_vectors(cache.open(pairs[0][0]), "avg")
    mean_D, covariance_DD = streaming_moments(x)
    norm = float(np.linalg.norm(covariance_DD))
    assert linear_cka(x, x, mean_D, mean_D, (norm, norm)) == pytest.approx(1, rel=1e-5)
    assert linear_cka(x, x, mean_D, mean_D, (0.0, norm)) == 0.0


def test_effective_rank_is_the_number_of_equal_variances(found):
    assert effective_rank(np.array([2.0, 2.0, 2.0, 0.0])) == pytest.approx(3)
    assert effective_rank(np.zeros(3)) == 1
    assert [item["dims"] for item in found.teachers] == [12, 7]
    assert 1 < found.teachers[0]["effective_rank"] < 12


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"keys": [f"{row:03}.png" if row else "other.png" for row in range(105)]}, "lacks the key"),
        ({"labels": [NAMES[row % 3] if row else "cow" for row in range(105)]}, "'000.png' has another label"),
        ({"names": ("ant", "bee", "owl")}, "class 'cow' is in one of"),
        ({"images": [png(np.full((2, 2, 3), row + 1, np.uint8)) for row in range(105)]}, "'000.png' is another image"),
    ],
)
def test_other_images_labels_or_classes_are_refused_by_name(tmp_path, pairs, change, said):
    other = make_pair(tmp_path, "other", rows_of(5, 1, 2), **change)
    with pytest.raises(CacheError, match=said):
        tcs.compare_teachers(config_of([pairs[0], other]))


def test_maps_are_refused(tmp_path, pairs):
    other = make_pair(tmp_path, "map", rows_of(20, 1, 2).reshape(105, 2, 2, 5))
    with pytest.raises(DataError, match=r"is a map, and teachers are compared by vectors"):
        tcs.compare_teachers(config_of([pairs[0], other]))


def test_teachers_without_a_name_of_their_own_are_told_by_their_stores(tmp_path, pairs):
    (tmp_path / "b").mkdir()
    again = make_pair(tmp_path / "b", "good", rows_of(12, 0.9, 3))
    found = tcs.compare_teachers(config_of([pairs[0], again], shots=(1,), seeds=(0,)))
    assert found.names == [pairs[0][0], again[0]]
    assert ", and a claim takes 3 splits or more" in verdict(found)


def test_results_of_the_same_options_are_read_and_others_refused(tmp_path, pairs, monkeypatch):
    out = tmp_path / "out"
    first = tcs.compare_teachers(config_of(pairs, shots=(1,), seeds=(0, 1), out=str(out)))
    assert {path.name for path in out.iterdir()} == {"teachers.json", "teachers.csv", "teachers.md", "teachers.png"}
    monkeypatch.setattr("tcs.evaluation.teachers._measure", None)
    again = tcs.compare_teachers(config_of(pairs, shots=(1,), seeds=(0, 1), out=str(out)))
    assert render(again) == render(first) == (out / "teachers.md").read_text()
    with pytest.raises(ArtefactError, match="exists and was made otherwise: seeds is"):
        tcs.compare_teachers(config_of(pairs, shots=(1,), seeds=(0,), out=str(out)))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("a")
    with pytest.raises(ArtefactError, match=r"holds files that are not beside a teachers\.json of tcs probe"):
        tcs.compare_teachers(config_of(pairs, out=str(tmp_path / "mine")))
    record = json.loads((out / "teachers.json").read_text())
    del record["cka"]
    with pytest.raises(ArtefactError, match=r"teachers\.json lacks 'cka'; pass --overwrite"):
        TeacherComparison.from_record(record)


def test_report_of_the_folder_is_a_page_with_the_same_numbers(tmp_path, found):
    write_teachers(found, tmp_path / "out")
    page = tcs.write_report(tmp_path / "out").read_text()
    assert str(escape(verdict(found))) in page
    assert f"{found.interval('poor', 'ridge', 4).mean:.1f}" in page
    assert f"{found.differences[0]['mean']:+.2f}" in page
    assert f'<td class="n ">{found.cka[0]["cka"]:.3f}</td>' in page
    assert page.count('class="bar"') == 2 * 2 * 2  # of probes that splits change, an interval each
    (tmp_path / "out" / "teachers.json").write_text("[]")
    with pytest.raises(ArtefactError, match=r"teachers\.json cannot be read .* run tcs probe again with --overwrite"):
        tcs.write_report(tmp_path / "out")


def made_up(values):
    """A comparison of {teacher: {(measure, shots): [top-1 by seed]}}."""
    rows = [
        {"teacher": name, "measure": measure, "shots": shots, "seed": seed, "top1": top1, "fell_back": ""}
        for name, cells in values.items()
        for (measure, shots), found in cells.items()
        for seed, top1 in enumerate(found)
    ]
    teachers = [{"teacher": name} for name in values]
    return TeacherComparison(teachers=teachers, rows=rows, differences=[], cka=[], recipe={}, environment=ENVIRONMENT)


def cells(ridge, spread, shots=(1, 4)):
    return {(measure, count): found for measure, found in ((RIDGE, ridge), (TRANSDUCTIVE, spread)) for count in shots}


HIGH, LOW = [60.0, 61.0, 62.5, 61.5, 60.5], [50.0, 52.0, 51.0, 53.0, 50.5]
WILD = [45.0, 70.0, 40.0, 66.0, 47.0]


def test_a_sure_lead_is_told_with_its_interval():
    said = verdict(made_up({"a": cells(LOW, LOW), "b": cells(HIGH, HIGH)}))
    gain = paired_difference(dict(enumerate(HIGH)), dict(enumerate(LOW)))
    interval = f"{gain.mean:+.1f} points (95 % interval {gain.mean - gain.half:+.1f} to {gain.mean + gain.half:+.1f})"
    assert said == (
        f"Take b: by ridge probes with 1 and 4 labels a class (mean, 5 splits) it is ahead of a by {interval}; "
        f"by transductive probes as well, by {interval}."
    )


def test_what_the_intervals_do_not_hold_is_not_claimed():
    said = verdict(made_up({"a": cells(HIGH, WILD), "b": cells(WILD, HIGH)}))
    assert said.startswith("Ridge probes with 1 and 4 labels a class (mean, 5 splits) do not tell a from b: +")
    assert "Take" not in said
    assert headline(made_up({"a": cells(HIGH, WILD), "b": cells(WILD, HIGH)})) == "Ridge probes do not tell a from b."
    assert "transductive probes do not tell b from a" in said
    said = verdict(made_up({"a": cells([60.0, 60.5], [60.0, 60.5]), "b": cells([50.0, 50.4], [50.0, 50.4])}))
    assert ", and a claim takes 3 splits or more" in said


def test_probes_that_contradict_each_other_are_told():
    said = verdict(made_up({"a": cells(HIGH, LOW), "b": cells(LOW, HIGH)}))
    assert said.startswith("Take a: ")
    assert "; but by transductive probes b is ahead of a by +" in said


def test_of_three_the_nearest_is_named_and_holm_corrects():
    near = [value - 0.4 + 0.5 * (-1) ** place for place, value in enumerate(HIGH)]
    found = made_up({"a": cells(HIGH, HIGH, (1,)), "b": cells(near, near, (1,)), "c": cells(LOW, LOW, (1,))})
    lead = lead_of(found, RIDGE)
    assert (lead.teacher, lead.second, lead.is_sure) == ("a", "b", False)
    found = made_up(
        {"a": cells(HIGH, HIGH, (1,)), "b": cells(LOW, LOW, (1,)), "c": cells([40.0, 42, 41, 40, 41], LOW, (1,))}
    )
    assert "it is ahead of every other, the nearest being b by" in verdict(found)
    assert "with 1 label a class (5 splits)" in verdict(found)


def arguments(pairs, *more):
    return ["probe", *(pair[0] for pair in pairs), *(part for pair in pairs for part in ("--test", pair[1])), *more]


def test_command_prints_the_page_or_json(pairs, tmp_path):
    options = ("--shots", "1", "--shots", "4", "--seed", "0", "--out", str(tmp_path / "out"))
    done = CliRunner().invoke(group, arguments(pairs, *options))
    assert done.exit_code == 0, done.output
    assert "| teacher | ridge, 1 | ridge, 4 | transductive, 1 | transductive, 4 | k-NN | ceiling |" in done.stdout
    assert "Linear CKA on 60 images: good and poor 0." in done.stdout
    facts = json.loads(CliRunner().invoke(group, arguments(pairs, *options, "--json")).stdout)
    assert facts["verdict"] in done.stdout
    assert len(facts["rows"]) == 2 * (2 * 2 + 2)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--dims", "4"), "--dims has no effect with several stores"),
        (("--head", "logistic"), "--head has no effect with several stores"),
        (("--split-seed", "1"), "--split-seed has no effect with several stores"),
        (("--test", "z.store"), "--test is given 3 times, and STORE 2 times"),
    ],
)
def test_options_of_one_store_are_refused_for_several(pairs, more, said):
    done = CliRunner().invoke(group, arguments(pairs, *more))
    assert isinstance(done.exception, ConfigError)
    assert said in str(done.exception)


@pytest.mark.parametrize("option", ["--test", "--shots", "--readout"])
def test_one_store_takes_one_of_each(pairs, option):
    value = "3" if option == "--shots" else "avg"
    done = CliRunner().invoke(group, arguments(pairs[:1], option, value, option, value))
    assert isinstance(done.exception, ConfigError)
    assert f"{option} is given {3 if option == '--test' else 2} times, and STORE once" in str(done.exception)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stores": ("a",), "tests": ("b",)}, "stores are a; teachers are compared from two stores on"),
        ({"tests": ("c",)}, "--test is given 1 times, and STORE 2 times"),
        ({"tests": ("c", "a")}, "a store is given twice"),
        ({"readouts": ("x", "y", "z")}, "--readout is given 3 times; give it once for all teachers"),
        ({"shots": ()}, "--shots is missing"),
        ({"shots": (1, 1)}, "--shots names 1, 1; each may stand there once"),
        ({"shots": (0,)}, "--shots is 0; it must be 1 or more"),
        ({"seeds": ()}, "--seed is missing"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        tcs.CompareConfig(**{"stores": ("a", "b"), "tests": ("c", "d"), **options})
