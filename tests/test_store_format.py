"""FORMAT.md held against what is written: a reader made from that page alone, with h5py and hashlib, nothing of `cache`."""

import base64
import hashlib
import itertools
import json
import math
import pathlib

import h5py
import numpy as np
import pytest
from artefacts import make_store

import cache

FIXTURES = pathlib.Path(__file__).parent / "fixtures"


def blake(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"".join(parts), digest_size=16).digest()


def json_digest(value: object) -> str:
    return blake(json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")).hex()


def shard_digest(version: int, plan_identity: str, shard: int, datasets: dict[str, np.ndarray]) -> str:
    parts = [json.dumps([version, plan_identity, shard]).encode()]
    for path, values in datasets.items():
        parts += [json.dumps([path, values.dtype.str, list(values.shape)]).encode(), values.tobytes()]
    return blake(*parts).hex()


def tables(plan: dict) -> list[str]:
    """The datasets of a shard in the order of the table."""
    readouts = [f"features/{item['name']}" for item in plan["readouts"]]
    views = ["views"] if plan.get("views") else []
    images = [] if plan["images"] == "none" else ["images/bytes", "images/offsets"]
    return ["keys", "positions", "labels", "hashes", *readouts, *views, *images, "quarantine"]


def values_of(file: h5py.File) -> dict[str, np.ndarray]:
    """All datasets by path, each contiguous and aligned, read without HDF5 where it has bytes."""
    found = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            assert (item.chunks, item.compression, item.external) == (None, None, None)
            offset = item.id.get_offset()
            assert offset is None or offset % 64 == 0
            found[name] = item[()]
            if item.size:
                assert np.array_equal(np.memmap(file.filename, item.dtype, "r", offset, item.shape), found[name])

    file.visititems(visit)
    return found


def plan_version(manifest: dict) -> int:
    """What plan and shards are of: the manifest's version, or what one with later labels says."""
    return manifest["labels"]["plan_version"] if manifest["format_version"] == 3 else manifest["format_version"]


def check_manifest(manifest: dict, hashes: list[bytes]) -> dict:
    """The plan, once both identities are found again."""
    version, plan = plan_version(manifest), manifest["plan"]
    fields = {
        "format",
        "format_version",
        "state",
        "identity",
        "plan_identity",
        "shards",
        "quarantine",
        "gate",
        "provenance",
        "plan",
    }
    assert set(manifest) == fields | ({"labels"} if manifest["format_version"] == 3 else set())
    rest = {name: value for name, value in plan.items() if name != "batch_size"}
    told = {"format": "tcs-feature-store", "format_version": version, "plan": rest}
    assert manifest["plan_identity"] == json_digest(told)
    positions = [entry["position"] for entry in manifest["quarantine"]]
    identity = blake(manifest["plan_identity"].encode("ascii"), *hashes, json.dumps(positions).encode())
    assert manifest["identity"] == identity.hex()
    new = {"views", "constants"} if version == 2 else set()
    old = {"identity", "readouts", "keys", "labels", "classes", "images", "rows_per_shard", "batch_size"}
    assert set(plan) == old | new
    for constant in plan.get("constants", {}).values():
        size_bytes = math.prod(constant["shape"]) * np.dtype(constant["dtype"]).itemsize
        assert len(base64.b64decode(constant["base64"])) == size_bytes
    return plan


def read_folder(folder: pathlib.Path) -> tuple[dict, list[dict[str, np.ndarray]]]:
    """The manifest and the datasets of each shard, every digest found again."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    shards = []
    for index, entry in enumerate(manifest["shards"]):
        path = folder / entry["file"]
        data = path.read_bytes()
        assert (path.name, len(data)) == (f"shard-{index:05d}.h5", entry["bytes"])
        assert blake(data).hex() == entry["digest"]
        with h5py.File(path) as file:
            found = values_of(file)
            datasets = {name: found.pop(name) for name in tables(manifest["plan"])}
            assert not found
            version, identity = plan_version(manifest), manifest["plan_identity"]
            digest = shard_digest(version, identity, index, datasets)
            wanted = {"format_version": version, "plan_identity": identity, "shard": index, "content_digest": digest}
            told = {
                name: value.decode() if isinstance(value, bytes) else int(value) for name, value in file.attrs.items()
            }
            assert told == wanted
        shards.append(datasets)
    plan = check_manifest(manifest, [datasets["hashes"].tobytes() for datasets in shards])
    for index, datasets in enumerate(shards):
        positions = datasets["positions"].tolist()
        assert all(
            index * plan["rows_per_shard"] <= place < (index + 1) * plan["rows_per_shard"] for place in positions
        )
        assert [key.decode() for key in datasets["keys"]] == [plan["keys"][place] for place in positions]
        assert datasets["labels"].tolist() == [plan["labels"][place] for place in positions]
    return manifest, shards


def read_packed(path: pathlib.Path) -> tuple[dict, list[dict[str, np.ndarray]]]:
    """The same of a packed store; each shard is cut out and its content digest found again."""
    with h5py.File(path) as file:
        found, attributes = values_of(file), dict(file.attrs)
    text = found["manifest"].tobytes()
    manifest = json.loads(text)
    assert attributes == {
        "format": b"tcs-feature-store",
        "format_version": manifest["format_version"],
        "kind": b"packed",
        "manifest_digest": blake(text).hex().encode(),
    }
    plan = check_manifest(manifest, [found["hashes"].tobytes()])
    assert set(found) == {"manifest", "content_digests", *tables(plan)} - {"keys", "quarantine"}
    shards, start = [], 0
    for index, entry in enumerate(manifest["shards"]):
        rows = slice(start, start + entry["rows"])
        datasets = {
            name: found[name][rows] for name in tables(plan) if name in found and not name.startswith("images/")
        }
        keys = [plan["keys"][place].encode() for place in datasets["positions"]]
        datasets = {"keys": np.array(keys, f"S{max(map(len, keys), default=1)}")} | datasets
        if "images/bytes" in found:
            cuts = found["images/offsets"][start : rows.stop + 1]
            datasets |= {"images/bytes": found["images/bytes"][cuts[0] : cuts[-1]], "images/offsets": cuts - cuts[0]}
        bounds = range(index * plan["rows_per_shard"], (index + 1) * plan["rows_per_shard"])
        bad = [item for item in manifest["quarantine"] if item["position"] in bounds]
        datasets["quarantine"] = np.frombuffer(json.dumps(bad).encode("ascii"), np.uint8)
        digest = shard_digest(plan_version(manifest), manifest["plan_identity"], index, datasets)
        assert found["content_digests"][index].tobytes().hex() == digest
        shards.append(datasets)
        start = rows.stop
    return manifest, shards


def require_the_same(store: cache.Store, manifest: dict, shards: list[dict[str, np.ndarray]]) -> None:
    """What `cache` reads of the store is what the page says."""
    assert manifest["identity"] == store.identity
    labels, ending = manifest.get("labels", manifest["plan"]), ""
    if "labels" in manifest:
        told = {name: labels[name] for name in ("classes", "labels")}
        ending = f"+labels.{json_digest(told)}"
    assert store.labelled_identity == manifest["identity"] + ending
    assert store.classes == tuple(labels["classes"])
    places = np.concatenate([datasets["positions"] for datasets in shards])
    assert store.labels_N.tolist() == [labels["labels"][place] for place in places]
    assert [key.decode() for datasets in shards for key in datasets["keys"]] == store.keys
    for name in store.readouts:
        stored = np.concatenate([datasets[f"features/{name}"] for datasets in shards])
        assert stored.dtype == store.features(name)[:].dtype
        assert np.array_equal(stored, store.features(name)[:])
    if store.has_images:
        blobs = []
        for datasets in shards:
            cuts = datasets["images/offsets"]
            blobs += [datasets["images/bytes"][a:b].tobytes() for a, b in itertools.pairwise(cuts)]
        assert blobs == [store.image_bytes(row) for row in range(len(store))]


@pytest.mark.parametrize("kind", ["v1", "v2", "v3", "plain", "views", "map", "no images", "no labels"])
def test_the_page_is_enough_to_read_a_store(tmp_path, kind):
    options = {
        "views": {"views": 3},
        "map": {"grid": (2, 3)},
        "no images": {"images": "none"},
        "no labels": {"labelled": False},
    }
    is_fixture = kind in ("v1", "v2", "v3")
    made = None if is_fixture else make_store(tmp_path / "x.store", rows=50, **options.get(kind, {}))
    folder = FIXTURES / f"store_{kind}" if made is None else made.path
    require_the_same(cache.open(folder), *read_folder(folder))
    packed = cache.pack(folder, tmp_path / "x.h5")
    require_the_same(cache.open(packed), *read_packed(packed))
