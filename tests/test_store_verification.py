"""Verification: whatever is wrong with a store is found, all of it, and named by file."""

import json
import re
import shutil

import h5py
import numpy as np
import pytest
from artefacts import make_store

import cache
from cache import errors
from cache.shard import content_digest
from tcs.cli import main


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store of 200 rows in five shards, images included."""
    return make_store(tmp_path_factory.mktemp("whole") / "x.store", rows=200).path


@pytest.fixture
def store(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "x.store")


def flip(path, at, bit=1):
    data = bytearray(path.read_bytes())
    data[at] ^= bit
    path.write_bytes(data)


def offset_of(path, name):
    with h5py.File(path) as file:
        return file[name].id.get_offset()


def change_manifest(store, change):
    value = json.loads((store / "manifest.json").read_text())
    change(value)
    (store / "manifest.json").write_text(json.dumps(value))


def told(store):
    return [(problem.file, problem.what) for problem in cache.verify(store).problems]


def test_a_sound_store_is_said_to_be_sound_and_nothing_is_written(store):
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in store.iterdir()}
    read = []
    found = cache.verify(store, read.append)
    assert found.is_sound
    assert (found.state, found.planned, found.shards, found.rows, found.problems) == ("closed", 5, 5, 200, ())
    assert sum(read) == found.bytes == sum(len(data) for name, (_, data) in before.items() if name != "manifest.json")
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in store.iterdir()} == before


@pytest.mark.parametrize(
    ("dataset", "what"),
    [
        ("features/avg", ["its bytes have digest", "its content has digest"]),
        ("images/bytes", ["its bytes have digest", "its content has digest"]),
        ("hashes", ["its bytes have digest", "its content has digest"]),
        ("keys", ["its bytes have digest", "keys differ from the plan's"]),
        # Where the layout itself is wrong, no frame is known to be digested.
        ("labels", ["labels differ from the plan's"]),
        ("positions", ["positions of shard 1 must be one ascending row|shard 1 must cover"]),
        ("images/offsets", ["images/offsets must rise"]),
        ("quarantine", ["cannot be read|quarantine is"]),
    ],
)
def test_a_flipped_byte_of_any_dataset_is_found_and_named(store, dataset, what):
    path = store / "shard-00001.h5"
    flip(path, offset_of(path, dataset))
    found = cache.verify(store)
    assert not found.is_sound
    assert found.bad_shards == ("shard-00001.h5",)
    of_shard = [problem.what for problem in found.problems if problem.file == "shard-00001.h5"]
    assert len(of_shard) == len(what)
    assert all(re.search(wanted, said) for wanted, said in zip(what, of_shard, strict=True))


def test_a_flipped_bit_at_any_place_of_a_shard_is_found(store):
    path = store / "shard-00002.h5"
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in [0, 8, len(data) - 1, *rng.integers(0, 2048, 30).tolist(), *rng.integers(0, len(data), 30).tolist()]:
        path.write_bytes(data)
        flip(path, at, 1 << int(rng.integers(8)))
        assert cache.verify(store).bad_shards == ("shard-00002.h5",), at


def test_all_that_is_wrong_is_listed_not_only_the_first(store):
    flip(store / "shard-00000.h5", offset_of(store / "shard-00000.h5", "features/avg"))
    data = (store / "shard-00001.h5").read_bytes()
    (store / "shard-00001.h5").write_bytes(data[:5000])
    (store / "shard-00003.h5").unlink()
    shutil.copy(store / "shard-00004.h5", store / "shard-00007.h5")
    found = cache.verify(store)
    assert found.bad_shards == ("shard-00000.h5", "shard-00001.h5", "shard-00003.h5")
    problems = told(store)
    assert ("shard-00007.h5", "the plan has 5 shards, so this one belongs to no part of it; move it away") in problems
    assert ("shard-00001.h5", f"it has 5,000 bytes, the manifest gives {len(data):,}") in problems
    assert ("shard-00003.h5", "it is missing") in problems
    assert not found.bad_manifest


def test_swapped_shards_are_both_named(store):
    a, b = store / "shard-00001.h5", store / "shard-00002.h5"
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    problems = dict(told(store))
    assert "attribute shard is" in problems["shard-00001.h5"]
    assert "attribute shard is" in problems["shard-00002.h5"]


def rewrite(store, index, change):
    """Change a shard by h5py as its author could have, with the right content digest and the manifest's digests."""
    path = store / f"shard-0000{index}.h5"
    plan = cache.open(store).manifest.plan
    with h5py.File(path, "r+") as file:
        change(file)
        names = [
            "keys",
            "positions",
            "labels",
            "hashes",
            "features/avg",
            "images/bytes",
            "images/offsets",
            "quarantine",
        ]
        digest = content_digest(plan, index, {name: file[name][()] for name in names})
        file.attrs["content_digest"] = np.bytes_(digest)
    data = path.read_bytes()

    def enter(value):
        value["shards"][index] |= {"bytes": len(data), "digest": cache.digest_of_bytes(data)}

    change_manifest(store, enter)


def test_what_right_digests_cover_up_is_found_all_the_same(store):
    def swap_keys(file):
        file["keys"][:2] = file["keys"][:2][::-1].copy()

    rewrite(store, 0, swap_keys)
    rewrite(store, 1, lambda file: file["features/avg"].write_direct(np.full((40, 24), np.nan, "<f4")))

    def change_image(file):
        file["images/bytes"][5] = file["images/bytes"][5] ^ 1

    rewrite(store, 2, change_image)
    assert told(store) == [
        ("shard-00000.h5", "keys differ from the plan's"),
        ("shard-00001.h5", "960 values of readout avg are not finite"),
        ("shard-00002.h5", "1 of 40 images are not the ones that were hashed"),
    ]


def test_a_manifest_that_differs_from_its_shards_is_named(store):
    change_manifest(store, lambda value: value.update(identity="0" * 32))
    found = cache.verify(store)
    assert found.bad_manifest
    assert not found.bad_shards
    assert "its identity is 00000000000000000000000000000000, but its shards have " in found.problems[0].what


def test_wrong_row_counts_are_named(store):
    def shift(value):
        value["shards"][0]["rows"] += 1
        value["shards"][1]["rows"] -= 1

    change_manifest(store, shift)
    assert told(store) == [
        ("shard-00000.h5", "it has 40 rows, the manifest gives 41"),
        ("shard-00001.h5", "it has 40 rows, the manifest gives 39"),
    ]


def reorder(value):
    keys = value["plan"]["keys"]
    keys[0], keys[1] = keys[1], keys[0]


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (lambda path: path.unlink(), r"it is missing \(5 shards are not checked\)"),
        (lambda path: path.write_bytes(b""), "is not readable as JSON"),
        (lambda path: path.write_bytes(path.read_bytes()[:-3]), "is not readable as JSON"),
        (lambda path: change_manifest(path.parent, reorder), "plan_identity is '.*' but the plan beside it gives"),
        (lambda path: change_manifest(path.parent, lambda value: value.update(format_version=9)), "format version 9"),
        (lambda path: (path.unlink(), path.mkdir()), "Is a directory|no ordinary file"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_the_problem(store, harm, what):
    harm(store / "manifest.json")
    found = cache.verify(store)
    assert (found.state, found.bad_manifest, found.is_sound, len(found.problems)) == ("unreadable", True, False, 1)
    assert re.search(what, found.problems[0].what)
    assert "\n" not in found.problems[0].what


def test_an_open_store_is_incomplete_and_its_shards_are_checked(store):
    change_manifest(store, lambda value: value.update(state="open", identity=None, shards=[], gate=None))
    (store / "shard-00003.h5").unlink()
    flip(store / "shard-00001.h5", offset_of(store / "shard-00001.h5", "features/avg"))
    found = cache.verify(store)
    assert (found.state, found.is_sound, found.pending) == ("open", False, ("shard-00003.h5",))
    assert (found.shards, found.rows, found.bad_shards) == (4, 120, ("shard-00001.h5",))


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(errors.StoreNotFoundError, match=r"it cannot be listed \(No such file or directory\)"):
        cache.verify(tmp_path / "none")
    with pytest.raises(errors.StoreNotFoundError, match=r"it has neither manifest\.json nor shards"):
        cache.verify(tmp_path)


def verify_command(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["cache", "verify", *map(str, arguments)])
    return ended.value.code, capsys.readouterr()


def test_the_command_says_it_in_one_line_or_lists_the_files(store, capsys):
    size = sum(path.stat().st_size for path in store.glob("*.h5"))
    code, output = verify_command(capsys, store)
    assert (code, output.err) == (0, "")
    assert output.out == f"{store} is sound: 5 of 5 shards, 200 rows, {size / 1e6:.1f} MB checked.\n"
    (store / "shard-00003.h5").unlink()
    code, output = verify_command(capsys, store)
    lines = output.out.splitlines()
    assert code == 1
    assert lines[0] == f"{store}/shard-00003.h5: it is missing"
    assert lines[-1].startswith(f"{store}: 1 problem, ")
    assert lines[-1].endswith(f"tcs cache repair {store} writes again what is bad or missing.")
    code, output = verify_command(capsys, store, "--json")
    found = json.loads(output.out)
    assert (code, found["sound"], found["bad_shards"]) == (1, False, ["shard-00003.h5"])
    assert found["problems"] == [{"file": "shard-00003.h5", "what": "it is missing"}]


def test_the_command_says_what_an_open_store_lacks(store, capsys):
    change_manifest(store, lambda value: value.update(state="open", identity=None, shards=[], gate=None))
    (store / "shard-00003.h5").unlink()
    code, output = verify_command(capsys, store)
    assert code == 1
    assert f"{store} is incomplete: 1 of 5 shards are not written yet." in output.out


def test_a_packed_store_that_was_cut_short_is_said_to_be_one(store, tmp_path):
    packed = cache.pack(store, tmp_path / "x.h5")
    packed.write_bytes(packed.read_bytes()[:-100])
    found = cache.verify(packed)
    assert (found.state, found.is_sound) == ("unreadable", False)
    assert "truncated file" in found.problems[0].what
    with pytest.raises(errors.CorruptStoreError, match="truncated file"):
        cache.open(packed)
    packed.write_bytes(b"")
    with pytest.raises(errors.StoreNotFoundError, match="is no feature store: it is a file"):
        cache.verify(packed)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (PermissionError(13, "Permission denied"), "permission denied"),
        (OSError(24, "Too many open files"), "too many open files"),
        (OSError(5, "Input/output error"), "input/output error"),
        (MemoryError(), "memory ran out"),
    ],
)
@pytest.mark.parametrize("task", ["open", "verify", "rewrite"])
def test_a_file_that_the_system_does_not_let_be_read_is_not_called_damaged(store, monkeypatch, error, why, task):
    plan, before = cache.open(store).manifest.plan, {path.name: path.read_bytes() for path in store.iterdir()}
    plain = h5py.File

    def refusing(path, *arguments, **options):
        if str(path).endswith("shard-00001.h5"):
            raise error
        return plain(path, *arguments, **options)

    assert "shard-00001.h5" in before
    if task == "rewrite":  # the writer looks at the shards of an open store, and writes again those that are damaged
        cache.reopen_store(store, plan, provenance={})
        before = {path.name: path.read_bytes() for path in store.iterdir()}
    monkeypatch.setattr("h5py.File", refusing)
    message = rf"shard-00001\.h5 cannot be read \({why}\), which says nothing of its content; "
    with pytest.raises(errors.UnreadableFileError, match=message) as found:
        {
            "open": lambda: cache.open(store),
            "verify": lambda: cache.verify(store),
            "rewrite": lambda: go_on(store, plan),
        }[task]()
    assert "delete" not in str(found.value)
    assert "repair" not in str(found.value)
    assert {path.name: path.read_bytes() for path in store.iterdir() if path.name != ".lock"} == before


def go_on(store, plan):
    with cache.StoreWriter(store, plan, provenance={}) as writer:
        writer.pending()
