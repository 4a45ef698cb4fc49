"""What stands in the folder of a store, read with plain json and bytes and nothing of `cache`."""

import json
import pathlib
from typing import Any


def manifest_of(path: pathlib.Path) -> dict[str, Any]:
    """The manifest as it stands on disk."""
    manifest: dict[str, Any] = json.loads((path / "manifest.json").read_text())
    return manifest


def shard_files(path: pathlib.Path) -> dict[str, bytes]:
    """{file name: bytes} of the shards."""
    return {file.name: file.read_bytes() for file in sorted(path.glob("shard-*.h5"))}


def stood(path: pathlib.Path) -> dict[str, tuple[int, int]]:
    """{file name: (inode, time of the last change)} of the shards: equal where none was written again."""
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in path.glob("shard-*.h5")}
