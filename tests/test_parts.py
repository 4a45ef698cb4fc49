"""Extraction by several ranks, here as threads of one process: the store of one, judged by rank 0, or none at all."""

import contextlib
import dataclasses
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from crews import at_once, crew
from extraction import break_some, config, fill
from store_folders import manifest_of, shard_files, stood

import cache
from cache.errors import IncompleteStoreError, LockedStoreError, StoreWriteError
from tcs.config.extract import ExtractConfig
from tcs.distributed.ranks import ONE_RANK, Ranks
from tcs.errors import DataError, RankError
from tcs.extraction.extract import extract
from tcs.extraction.plan import prepare
from tcs.extraction.ranks import hosts_of
from tcs.teacher.projection import fitted_projection

torch.set_num_threads(1)
HERE = threading.local()


@contextlib.contextmanager
def joined_here(**_: Any) -> Iterator[Ranks]:
    """`joined_ranks` for a thread that is a rank; outside those of `extract_together` it is alone."""
    if not hasattr(HERE, "ranks"):
        yield ONE_RANK
        return
    with HERE.ranks.joined() as ranks:
        yield ranks


@pytest.fixture(autouse=True)
def _threads_are_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tcs.extraction.extract.joined_ranks", joined_here)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return fill(tmp_path_factory.mktemp("data"), 26)


def extract_together(*settings: ExtractConfig) -> list[Any]:
    """One rank for each of the settings; what each returned or raised."""

    def run(ranks: Ranks, own: ExtractConfig) -> pathlib.Path:
        HERE.ranks = ranks
        return extract(own)

    everyone = crew(len(settings))
    return at_once(*(lambda r=ranks, s=own: run(r, s) for ranks, own in zip(everyone, settings, strict=True)))


@pytest.mark.parametrize("size", [2, 3, 5])
def test_any_number_of_ranks_makes_the_store_of_one_byte_for_byte(
    teacher: pathlib.Path, tmp_path: pathlib.Path, size: int
) -> None:
    data = fill(tmp_path / "data", 26)
    break_some(data)
    one = extract(config(data, tmp_path / "one", teacher, max_bad=4))
    settings = config(data, tmp_path / "s", teacher, max_bad=4)  # 4 shards
    assert extract_together(*[settings] * size) == [tmp_path / "s"] * size
    assert shard_files(tmp_path / "s") == shard_files(one)
    found, wanted = manifest_of(tmp_path / "s"), manifest_of(one)
    ranks = found["provenance"]["ranks"]
    assert (ranks["world_size"], len(ranks["hosts"]), len(set(ranks["hosts"]))) == (size, size, 1)
    assert wanted["provenance"]["ranks"] == {"world_size": 1, "hosts": ranks["hosts"][:1]}
    for manifest in (found, wanted):
        del manifest["provenance"]
    assert found == wanted
    assert len(found["quarantine"]) == 4
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == sorted([*shard_files(one), "manifest.json"])


def test_a_projection_fitted_on_a_sample_is_that_of_rank_0(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranks on other devices would fit it with other last bits, and the plan has but one."""
    options: dict[str, Any] = {"project": {"avg": 8}, "projection": "pca", "readouts": ("avg", "cls")}
    one = extract(config(data, tmp_path / "one", teacher, **options))
    fitted: list[Any] = []

    def counted(*arguments: Any) -> Any:
        fitted.append(arguments)
        return fitted_projection(*arguments)

    monkeypatch.setattr("tcs.extraction.projections.fitted_projection", counted)
    settings = config(data, tmp_path / "s", teacher, **options)
    assert extract_together(*[settings] * 3) == [tmp_path / "s"] * 3
    assert len(fitted) == 1
    assert shard_files(tmp_path / "s") == shard_files(one)
    assert manifest_of(tmp_path / "s")["plan"] == manifest_of(one)["plan"]
    assert cache.open(tmp_path / "s").features("avg").shape == (26, 8)


def test_batch_size_on_disk_serves_all_ranks_of_a_resume(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config(data, tmp_path / "s", teacher)
    one = extract(config(data, tmp_path / "one", teacher))
    with cache.StoreWriter(tmp_path / "s", prepare(settings).plan, provenance={}):
        (tmp_path / "s/shard-00001.h5").write_bytes((one / "shard-00001.h5").read_bytes())
    before = stood(tmp_path / "s")
    other = dataclasses.replace(settings, batch_size=16)
    assert extract_together(*[other] * 3) == [tmp_path / "s"] * 3
    assert "resuming: 1 of 4 shards are there already." in capsys.readouterr().err
    assert manifest_of(tmp_path / "s")["plan"]["batch_size"] == 3
    assert shard_files(tmp_path / "s") == shard_files(one)
    assert before.items() <= stood(tmp_path / "s").items()


def test_finished_store_is_said_once_and_overwrite_begins_anew(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config(data, tmp_path / "s", teacher)
    extract_together(settings, settings)
    before, whole = stood(tmp_path / "s"), shard_files(tmp_path / "s")
    capsys.readouterr()
    assert extract_together(settings, settings) == [tmp_path / "s"] * 2
    assert capsys.readouterr().err.count("finished already; nothing to do") == 1
    assert stood(tmp_path / "s") == before
    anew = dataclasses.replace(settings, overwrite=True)
    assert extract_together(anew, anew) == [tmp_path / "s"] * 2
    assert shard_files(tmp_path / "s") == whole
    assert all(stood(tmp_path / "s")[name] != before[name] for name in before)


def test_bad_images_of_all_ranks_are_judged_by_rank_0(teacher: pathlib.Path, tmp_path: pathlib.Path) -> None:
    data = fill(tmp_path / "data", 26)
    bad = break_some(data)  # in shards of both ranks
    first, second = extract_together(*[config(data, tmp_path / "s", teacher, max_bad=3)] * 2)
    assert isinstance(first, DataError)
    assert str(first).startswith("4 of 26 images are bad, --max-bad is 3: ")
    assert all(key in str(first) for key in bad)
    assert isinstance(second, RankError)
    with pytest.raises(IncompleteStoreError):
        cache.open(tmp_path / "s")
    fixed = fill_again(data, bad)
    assert extract_together(*[config(fixed, tmp_path / "s", teacher)] * 2) == [tmp_path / "s"] * 2
    assert shard_files(tmp_path / "s") == shard_files(extract(config(fixed, tmp_path / "one", teacher)))


@pytest.mark.parametrize(("images", "size"), [(1, 2), (3, 5)])
def test_fewer_images_than_ranks_make_the_store_of_one(
    teacher: pathlib.Path, tmp_path: pathlib.Path, images: int, size: int
) -> None:
    data = fill(tmp_path / "data", images)
    one = extract(config(data, tmp_path / "one", teacher, rows_per_shard=1))
    settings = config(data, tmp_path / "s", teacher, rows_per_shard=1)
    assert extract_together(*[settings] * size) == [tmp_path / "s"] * size
    assert shard_files(tmp_path / "s") == shard_files(one)
    assert len(shard_files(one)) == images
    found, wanted = (cache.open(path).manifest.provenance for path in (tmp_path / "s", one))
    assert (found["pixels"], found["seen"]) == (wanted["pixels"], wanted["seen"])
    assert found["seen"]["images"] == images


def fill_again(data: pathlib.Path, bad: dict[str, str]) -> pathlib.Path:
    for key in bad:
        (data / key).unlink()
    return fill(data, 26)


@pytest.mark.parametrize("failing", [0, 1])
def test_a_rank_that_fails_ends_all_and_the_same_command_resumes(
    data: pathlib.Path,
    teacher: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    failing: int,
) -> None:
    writer: Any = (cache.StoreWriter, cache.PartWriter)[failing]
    write = writer.write_shard

    def full(self: Any, index: int, rows: cache.ShardRows) -> Any:
        if index >= 4:
            raise StoreWriteError("no space left; free some and run again.")
        return write(self, index, rows)

    settings = config(data, tmp_path / "s", teacher, rows_per_shard=2)
    with monkeypatch.context() as patch:
        patch.setattr(writer, "write_shard", full)
        errors = extract_together(settings, settings)
    assert isinstance(errors[failing], StoreWriteError)
    assert isinstance(errors[1 - failing], RankError)
    before = stood(tmp_path / "s")
    assert {f"shard-0000{index}.h5" for index in (failing, 2 + failing)} <= set(before)
    assert manifest_of(tmp_path / "s")["state"] == "open"
    assert extract_together(*[settings] * 3) == [tmp_path / "s"] * 3
    assert before.items() <= stood(tmp_path / "s").items()
    one = extract(config(data, tmp_path / "one", teacher, rows_per_shard=2))
    assert shard_files(tmp_path / "s") == shard_files(one)


def test_a_locked_store_is_refused_on_all_ranks(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    settings = config(data, tmp_path / "s", teacher)
    with cache.StoreWriter(tmp_path / "s", prepare(settings).plan, provenance={}):
        first, second = extract_together(settings, settings)
    assert isinstance(first, LockedStoreError)
    assert isinstance(second, RankError)


def test_ranks_that_see_other_inputs_are_refused_before_anything_is_deleted(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    settings = config(data, tmp_path / "s", teacher, overwrite=True)
    before = stood(extract(settings))
    other = config(fill(tmp_path / "other", 20), tmp_path / "s", teacher, overwrite=True, crop_pct=1.0, batch_size=9)
    first, second = extract_together(settings, other)
    assert isinstance(first, DataError)
    assert str(first).startswith("rank 1 on ")
    assert ": keys, labels, identity.preprocessing differ; give all ranks the same images, teacher and rel" in str(
        first
    )
    assert isinstance(second, RankError)
    assert stood(tmp_path / "s") == before


def test_hosts_are_in_the_order_of_ranks(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = prepare(config(data, tmp_path / "s", teacher)).plan
    monkeypatch.setattr("tcs.extraction.ranks.platform.node", lambda: f"node{HERE.ranks.rank}")

    def take_part(ranks: Ranks) -> list[str]:
        HERE.ranks = ranks
        return hosts_of(plan, ranks)

    assert at_once(*(lambda r=ranks: take_part(r) for ranks in crew(3))) == [["node0", "node1", "node2"]] * 3


def test_threads_of_torch_change_no_byte(data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """torchrun gives each rank one thread, where a process that is alone has as many as there are cores."""
    one = extract(config(data, tmp_path / "one", teacher, batch_size=16))
    torch.set_num_threads(2)
    try:
        two = extract(config(data, tmp_path / "two", teacher, batch_size=16))
    finally:
        torch.set_num_threads(1)
    assert shard_files(one) == shard_files(two)
    assert np.array_equal(cache.open(one).features()[:], cache.open(two).features()[:])


def test_dry_run_is_told_once_and_writes_nothing(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config(data, tmp_path / "s", teacher, dry_run=True)
    extract(settings)
    told = capsys.readouterr().err.splitlines()
    assert extract_together(settings, settings) == [tmp_path / "s"] * 2
    assert not (tmp_path / "s").exists()
    assert capsys.readouterr().err.splitlines()[1:] == told[1:]  # the first line has the minutes, shared by two
