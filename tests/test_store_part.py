"""Shards written beside the holder of the lock: the same store, and nothing adopted that is not what was reported."""

import dataclasses
import json
import threading
import time

import numpy as np
import pytest
from small_stores import KEYS, make_plan, make_rows, write
from store_folders import shard_files

import cache
from cache import errors


def open_writer(path, plan=None, **options):
    return cache.StoreWriter(path, make_plan() if plan is None else plan, provenance={"host": "here"}, **options)


def part_of(path, share, plan=None):
    identity = (make_plan() if plan is None else plan).plan_identity
    return cache.PartWriter(path, identity, share=share, wait_seconds=0)


def through_json(written):
    """A report as it arrives from another process."""
    return cache.WrittenShard(**json.loads(json.dumps(dataclasses.asdict(written))))


def test_two_writers_make_the_store_of_one_byte_for_byte(tmp_path):
    plan = make_plan()
    with open_writer(tmp_path / "x.store") as writer:
        part = part_of(tmp_path / "x.store", [1, 2], make_plan(batch_size=99))
        assert part.plan.batch_size == 2
        reports = [through_json(part.write_shard(index, make_rows(plan, index, bad=(3,)))) for index in (2, 1)]
        writer.write_shard(0, make_rows(plan, 0))
        for report in reports:
            writer.adopt(report)
        assert [entry.position for entry in writer.quarantine] == [3]
        writer.close()
    write(tmp_path / "one.store", plan, bad=(3,))
    assert shard_files(tmp_path / "x.store") == shard_files(tmp_path / "one.store")
    assert (tmp_path / "x.store/manifest.json").read_bytes() == (tmp_path / "one.store/manifest.json").read_bytes()


def test_coverage_is_proved_with_adopted_shards_too(tmp_path):
    plan, path = make_plan(), tmp_path / "x.store"
    with open_writer(path) as writer:
        part = part_of(path, [0, 1, 2])
        writer.adopt(part.write_shard(0, make_rows(plan, 0)))
        part.write_shard(1, make_rows(plan, 1))  # written, never reported
        assert writer.pending() == [1, 2]
        with pytest.raises(errors.IncompleteStoreError, match=r"2 of 3 shards are not written \(\[1, 2\]\)"):
            writer.close()
    with open_writer(path) as writer:
        assert writer.pending() == [2]


def test_a_part_writes_its_share_once_and_nothing_else(tmp_path):
    plan, path = make_plan(), tmp_path / "x.store"
    with open_writer(path) as writer:
        writer.write_shard(0, make_rows(plan, 0))
        before = (path / "shard-00000.h5").stat()
        part = part_of(path, [1])
        part.write_shard(1, make_rows(plan, 1))
        for index, left in ((0, 0), (1, 0), (2, 0)):
            with pytest.raises(errors.SchemaError, match=f"shard {index} is not among the {left} left of this part"):
                part.write_shard(index, make_rows(plan, index))
        after = (path / "shard-00000.h5").stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        assert not (path / "shard-00002.h5").exists()


def test_rows_that_do_not_fit_leave_the_shard_to_be_written(tmp_path):
    plan, path = make_plan(), tmp_path / "x.store"
    with open_writer(path):
        part = part_of(path, [1])
        with pytest.raises(errors.SchemaError, match="shard 1 must cover the positions 2 to 3 once each"):
            part.write_shard(1, make_rows(plan, 0))
        part.write_shard(1, make_rows(plan, 1))


def test_only_the_reported_shard_is_adopted(tmp_path):
    plan, path = make_plan(), tmp_path / "x.store"
    with open_writer(path) as writer:
        part = part_of(path, [0, 1])
        first, second = (part.write_shard(index, make_rows(plan, index)) for index in (0, 1))
        target = path / "shard-00001.h5"
        data = target.read_bytes()
        target.write_bytes(data[:-1])
        with pytest.raises(errors.CorruptStoreError, match=rf"wrote {len(data)} bytes, .* there is {len(data) - 1} by"):
            writer.adopt(second, wait_seconds=0)
        target.unlink()
        with pytest.raises(
            errors.CorruptStoreError, match=r"after 0\.1 s there is nothing; all must see the same fold"
        ):
            writer.adopt(second, wait_seconds=0.1)
        rows = make_rows(plan, 1)
        other = dataclasses.replace(rows, features={k: np.zeros_like(v) for k, v in rows.features.items()})
        part_of(path, [1]).write_shard(1, other)  # as large, another content
        with pytest.raises(
            errors.CorruptStoreError, match=f"not the {second.content_digest} that was reported: anothe"
        ):
            writer.adopt(second)
        target.write_bytes((path / "shard-00000.h5").read_bytes())
        with pytest.raises(errors.CorruptStoreError, match="attribute shard is"):
            writer.adopt(dataclasses.replace(second, bytes=first.bytes))
        assert writer.pending() == [0, 1, 2]
        target.write_bytes(data)
        writer.adopt(second)
        with pytest.raises(errors.SchemaError, match="shard 1 is not pending"):
            writer.adopt(second)


def later(action):
    thread = threading.Timer(0.4, action)
    thread.start()
    return thread


def test_a_shard_that_appears_late_is_waited_for(tmp_path):
    plan, path = make_plan(), tmp_path / "x.store"
    with open_writer(path) as writer:
        report = part_of(path, [1]).write_shard(1, make_rows(plan, 1))
        (path / "shard-00001.h5").rename(tmp_path / "elsewhere")
        start = time.monotonic()
        thread = later(lambda: (tmp_path / "elsewhere").rename(path / "shard-00001.h5"))
        writer.adopt(report, wait_seconds=30)
        assert 0.3 < time.monotonic() - start < 20
        thread.join()


def test_a_manifest_that_appears_late_is_waited_for(tmp_path):
    path, held = tmp_path / "x.store", []
    thread = later(lambda: held.append(open_writer(path)))
    part = cache.PartWriter(path, make_plan().plan_identity, share=[0], wait_seconds=30)
    thread.join()
    assert part.plan.keys == KEYS
    held[0].__exit__(None, None, None)


def test_a_part_needs_an_open_store_of_its_plan(tmp_path):
    path = tmp_path / "x.store"
    with pytest.raises(
        errors.StoreNotFoundError, match=r"manifest\.json cannot be read .*; all must see the same folder"
    ):
        part_of(path, [0])
    with (
        open_writer(path),
        pytest.raises(errors.IdentityError, match=r"has the plan \w+, and its writer said \w+; all mus"),
    ):
        part_of(path, [0], make_plan(identity={"teacher": {"name": "a"}, "mean": [0.1]}))
    write(path, make_plan())
    with pytest.raises(errors.IncompleteStoreError, match="is finished, so there is no part of it to write"):
        part_of(path, [0])


def test_a_shard_of_quarantined_inputs_that_is_pending_again_is_replaced(tmp_path):
    plan, path = make_plan(), tmp_path / "x.store"
    write(path, plan, bad=(3,), shards=[0, 1])
    with open_writer(path) as writer:
        assert writer.retry_quarantined() == [1]
        part = part_of(path, writer.pending())
        for index in writer.pending():
            writer.adopt(part.write_shard(index, make_rows(plan, index)))
        assert writer.close().quarantine == ()
    write(tmp_path / "one.store", plan)
    assert shard_files(path) == shard_files(tmp_path / "one.store")
