"""Processes that decode for the teacher: little shared memory, and batches that a worker cannot give away."""

import pathlib
import time
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from extraction import config, fill

import cache
from tcs.errors import DataError
from tcs.extraction.decoding import Collate, DecodedBatch, DecodedImage
from tcs.extraction.extract import extract
from tcs.extraction.plan import prepare
from tcs.extraction.workers import SHARED, decoded_batches


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return fill(tmp_path_factory.mktemp("data"), 10)


class TooLarge:
    def __reduce__(self) -> str:
        raise OSError(28, "No space left on device")


class Lost(Collate):
    """As multiprocessing's thread does where shared memory is full: the batch is made, and cannot be sent."""

    def __call__(self, items: Sequence[DecodedImage]) -> DecodedBatch:
        batch = super().__call__(items)
        object.__setattr__(batch, "views", (TooLarge(),))
        return batch


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_batch_that_a_worker_cannot_give_away_ends_the_pass_within_seconds(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    work = prepare(config(data, tmp_path / "s", teacher))
    stream = decoded_batches(work.positions, [[0, 1], [2, 3]], Lost(2, work.teacher.input_shape), 1)
    started = time.monotonic()
    with pytest.raises(DataError, match=r"a worker process ended unexpectedly .*shared memory too small"):
        next(stream)
    assert time.monotonic() - started < 30
    assert "No space left on device" in capfd.readouterr().err


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared memory of this kind here")
def test_where_shared_memory_is_small_batches_go_through_pipes_and_the_store_is_the_same(
    data: pathlib.Path,
    teacher: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shared = cache.open(extract(config(data, tmp_path / "shared", teacher, workers=2)))
    assert "go through pipes" not in capsys.readouterr().err
    monkeypatch.setattr("tcs.extraction.workers.shutil.disk_usage", lambda _: SimpleNamespace(free=1))
    piped = cache.open(extract(config(data, tmp_path / "piped", teacher, workers=2)))
    assert "has 0 MiB free, and batches on their way may take" in capsys.readouterr().err
    assert piped.identity == shared.identity
    assert (piped.features()[:] == shared.features()[:]).all()
    assert [shard.digest for shard in piped.manifest.shards] == [shard.digest for shard in shared.manifest.shards]
