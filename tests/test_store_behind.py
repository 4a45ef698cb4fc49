"""Writing behind: the same store as writing in turn, errors that reach the caller, bounds on what is in memory."""

import threading

import numpy as np
import pytest

import cache
from cache.writer import WriteBehind

ROWS, PER_SHARD, DIMS = 23, 4, 3


def make_plan():
    return cache.Plan(
        identity={"teacher": "made-up"},
        readouts=(cache.Readout(name="avg", dims=DIMS, dtype="float16"),),
        keys=tuple(f"{row}.png" for row in range(ROWS)),
        labels=(-1,) * ROWS,
        classes=(),
        images="original",
        rows_per_shard=PER_SHARD,
        batch_size=4,
    )


def make_rows(plan, index, value=1.0):
    positions = np.array(plan.positions(index))
    return cache.ShardRows(
        positions_N=positions,
        hashes_N16=np.full((len(positions), 16), index, dtype=np.uint8),
        features={"avg": np.full((len(positions), DIMS), value + index)},
        images=[bytes([position + 1]) for position in positions.tolist()],
    )


def write_all(writer, shards):
    with WriteBehind(writer.write_shard) as write:
        for index, rows in enumerate(shards):
            write(index, rows)


def interrupted(rows):
    yield rows
    raise KeyboardInterrupt


@pytest.mark.parametrize("at_most", [1, 3])
def test_the_store_is_the_one_written_in_turn(tmp_path, at_most):
    plan = make_plan()
    with cache.StoreWriter(tmp_path / "a", plan, provenance={}) as writer:
        for index in writer.pending():
            writer.write_shard(index, make_rows(plan, index))
        writer.close()
    with cache.StoreWriter(tmp_path / "b", plan, provenance={}) as writer:
        with WriteBehind(writer.write_shard, at_most=at_most) as write:
            for index in writer.pending():
                write(index, make_rows(plan, index))
        assert writer.pending() == []
        writer.close()
    assert len(write.results) == plan.shard_count
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_reports_come_in_the_order_of_the_calls():
    first_may_end = threading.Event()

    def write_shard(index, rows):
        if index == 0:
            assert first_may_end.wait(10)
        else:
            first_may_end.set()
        return index * 10

    with WriteBehind(write_shard, at_most=2) as write:
        write(0, None)
        write(1, None)
    assert write.results == [0, 10]


def test_no_more_shards_are_taken_than_allowed():
    waiting, may_end, begun = threading.Semaphore(0), threading.Event(), []

    def write_shard(index, rows):
        begun.append(index)
        waiting.release()
        assert may_end.wait(10)

    with WriteBehind(write_shard, at_most=2) as write:
        write(0, None)
        write(1, None)
        assert waiting.acquire(timeout=10)
        assert waiting.acquire(timeout=10)
        third = threading.Thread(target=write, args=(2, None))
        third.start()
        third.join(0.05)
        assert third.is_alive()
        assert sorted(begun) == [0, 1]
        may_end.set()
        third.join(10)
    assert sorted(begun) == [0, 1, 2]


def test_an_error_reaches_the_next_call_and_the_shard_stays_pending(tmp_path):
    plan = make_plan()
    with cache.StoreWriter(tmp_path / "a", plan, provenance={}) as writer:
        with pytest.raises(cache.errors.FeatureValueError, match="is nan"):
            write_all(writer, [make_rows(plan, 0), make_rows(plan, 1, value=np.nan), make_rows(plan, 2)])
        assert writer.pending() == [1, 2, 3, 4, 5]


def test_the_last_error_is_raised_at_the_end_of_the_block(tmp_path):
    plan = make_plan()
    with cache.StoreWriter(tmp_path / "a", plan, provenance={}) as writer:
        with pytest.raises(cache.errors.FeatureValueError, match="is nan"):
            write_all(writer, [make_rows(plan, 0, value=np.nan)])
        assert len(writer.pending()) == plan.shard_count


def test_the_callers_own_error_wins_and_what_runs_is_finished(tmp_path):
    plan = make_plan()
    with cache.StoreWriter(tmp_path / "a", plan, provenance={}) as writer:
        with pytest.raises(KeyboardInterrupt):
            write_all(writer, interrupted(make_rows(plan, 0)))
        assert writer.pending() == [1, 2, 3, 4, 5]
        assert [path.name for path in (tmp_path / "a").glob("*.partial")] == []
