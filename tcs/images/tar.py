"""Images in a plain .tar: one pass over its headers finds where each member lies; reading is one read at that place.

A tar of a folder gives the keys and labels of the folder. What is not certain is refused: a tar that is cut off, or in
which a name occurs twice, would lose images without a word.
"""

import os
import pathlib
import posixpath
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any

from tcs.config.extract import DataConfig
from tcs.errors import DataError
from tcs.images.folder import find_split, is_hidden, list_paths
from tcs.images.formats import is_image
from tcs.images.listing import ImageList, check_key
from tcs.ordinary import open_ordinary, require_ordinary

COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ": "xz",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}

# Where a member's bytes lie, (offset, length), or why there are none.
Extent = tuple[int, int] | str
NO_END = "a link that leads nowhere"


class TarFiles:
    """The members of a tar by key. Every process opens the file itself; every read checks that it is as it was listed."""

    def __init__(self, path: pathlib.Path, extents: Mapping[str, Extent], stamp: tuple[int, int]) -> None:
        self._path, self._extents, self._stamp = path, extents, stamp
        self._descriptor, self._process = -1, -1

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_descriptor": -1, "_process": -1}

    def __del__(self) -> None:
        if self._process == os.getpid():
            os.close(self._descriptor)

    def read(self, key: str) -> bytes:
        """The bytes of the member; OSError where it has none or the file has changed since it was listed."""
        extent = self._extents[key]
        if isinstance(extent, str):
            raise OSError(extent)
        offset, length = extent
        data = os.pread(self._open(), length, offset)  # of up to 2 GB at once; no image is longer
        if len(data) < length:
            raise OSError(f"{self._path.name} ends inside of it")
        return data

    def size(self, key: str) -> int:
        """The length of the member; 0 where it has no bytes of its own."""
        extent = self._extents[key]
        return 0 if isinstance(extent, str) else extent[1]

    def _open(self) -> int:
        if self._process != os.getpid():
            self._descriptor, self._process = os.open(self._path, os.O_RDONLY), os.getpid()
        if _stamp(os.fstat(self._descriptor)) != self._stamp:  # each time: a tar may be written over in its place
            raise OSError(f"{self._path.name} has changed since it was listed")
        return self._descriptor


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def open_tar(config: DataConfig) -> ImageList:
    """The images of the tar `config.data` (of its folder `split`, where given); rules as for folders.

    DataError: no plain and whole tar, a name twice, an absolute name or one with ``..``, no images.
    """
    path = pathlib.Path(config.data).absolute()
    try:
        with open_ordinary(path) as file:
            stamp = _stamp(os.fstat(file.fileno()))
            _refuse_compressed(path, file.read(8))
            extents, others = _scan(path)
    except OSError as error:
        raise DataError(
            f"{config.data} cannot be read ({error.strerror or error}); DATA must be a .tar file."
        ) from error
    root = config.data
    if config.split is not None:
        folder = find_split(config.split, {key.partition("/")[0] for key in extents if "/" in key}, root)
        extents, others, root = _below(folder, extents), _below(folder, others), f"{root}/{folder}"
    if not extents and any(name.endswith(".tar") for name in others):
        raise DataError(f"{root} holds tars, not images; unpack it, and give the folder or one of the tars in it.")
    files = TarFiles(path, extents, stamp)
    origin = {"kind": "tar", "path": root}
    return list_paths(config, root=root, keys=list(extents), others=list(others), files=files, origin=origin)


def _refuse_compressed(path: pathlib.Path, head: bytes) -> None:
    kind = next((name for magic, name in COMPRESSED.items() if head.startswith(magic)), None)
    if kind is not None:
        raise DataError(
            f"{path} is compressed ({kind}), so its members cannot be read one by one;"
            " unpack it and give the folder, or pack it again as a plain .tar."
        )


def _below(folder: str, found: Mapping[str, Any]) -> dict[str, Any]:
    return {key[len(folder) + 1 :]: value for key, value in found.items() if key.startswith(f"{folder}/")}


def _scan(path: pathlib.Path) -> tuple[dict[str, Extent], dict[str, Extent]]:
    """Extents of the images of the tar, and of its other files, by key."""
    images: dict[str, Extent] = {}
    others: dict[str, Extent] = {}
    links: dict[str, str] = {}
    for member in _members(path):
        name = _key(member.name, path)
        *folders, last = name.split("/")
        if member.isdir() or any(is_hidden(folder, folder=True) for folder in folders) or is_hidden(last, folder=False):
            continue
        found = images if is_image(name) else others
        if name in found:
            raise DataError(f"{path} holds {name} twice; unpack it (the later one wins) and pack it again.")
        found[check_key(name, str(path)) if found is images else name] = _extent(member)
        if member.issym() or member.islnk():
            folder = posixpath.dirname(name) if member.issym() else ""
            links[name] = posixpath.normpath(posixpath.join(folder, member.linkname))
    everything = images | others
    ends: dict[str, Extent] = {}
    for name in links.keys() & images.keys():
        images[name] = _follow(name, links, everything, ends)
    return images, others


def _key(name: str, path: pathlib.Path) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise DataError(f"{path} has the member {name!a}, which leads out of it; pack it again with relative names.")
    return "/".join(parts)


def _extent(member: tarfile.TarInfo) -> Extent:
    if not member.isreg():
        return "not a regular file"
    return "stored as a sparse file" if member.issparse() else (member.offset_data, member.size)


def _follow(name: str, links: Mapping[str, str], extents: Mapping[str, Extent], ends: dict[str, Extent]) -> Extent:
    """The extent at the end of a chain of links, all inside the tar; a reason where the chain has no such end.

    `ends` are those found before: every link is followed once, however long the chains are that lead over it.
    """
    chain: dict[str, None] = {}
    target = name
    while target in links and target not in chain and target not in ends:
        chain[target] = None
        target = links[target]
    end = ends.get(target, NO_END if target in links else extents.get(target, NO_END))
    ends.update(dict.fromkeys(chain, end))
    return f"a link to {links[name]}, which is not in the tar" if end is NO_END else end


def _members(path: pathlib.Path) -> Iterator[tarfile.TarInfo]:
    """The headers in order; the content is skipped. DataError unless the tar is whole to its end mark."""
    require_ordinary(path)
    size = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as archive:
            while (member := archive.next()) is not None:
                if member.isreg() and not member.issparse() and member.offset_data + member.size > size:
                    raise tarfile.ReadError("unexpected end of data")
                yield member
                archive.members.clear()  # type: ignore[attr-defined]  # it would keep them all: 1 GB for a million
            end = archive.offset
    except (tarfile.TarError, ValueError) as error:  # ValueError: numbers in a header that are none
        raise DataError(f"{path} is no whole tar ({error}); copy or pack it again.") from error
    _require_end(path, end)


def _require_end(path: pathlib.Path, end: int) -> None:
    """tarfile takes a damaged header for the end; only zeros up to the end of the file are one."""
    with open_ordinary(path) as file:
        file.seek(end)
        block = file.read(tarfile.BLOCKSIZE)
        if len(block) < tarfile.BLOCKSIZE or any(block):
            raise DataError(f"{path} is cut off or damaged at byte {end:,}; copy or pack it again.")
        while block := file.read(1 << 20):
            if any(block):
                raise DataError(
                    f"{path} goes on after its end mark (two tars joined?); unpack it with tar --ignore-zeros and give the folder."
                )
