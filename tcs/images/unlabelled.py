"""More images without labels beside those of DATA: `--unlabelled-data`. Their keys begin with the name of the folder they are in."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence

from tcs.errors import DataError
from tcs.images.listing import ImageFiles, ImageList, natural_key


@dataclasses.dataclass(frozen=True)
class JoinedFiles:
    """Images of several sources: each of `parts` under its name and a slash, all others of `main`."""

    main: ImageFiles
    parts: Mapping[str, ImageFiles]

    def read(self, key: str) -> bytes:
        """As of the source that the image is in."""
        files, own = self._found(key)
        return files.read(own)

    def size(self, key: str) -> int:
        """As of the source that the image is in."""
        files, own = self._found(key)
        return files.size(own)

    def _found(self, key: str) -> tuple[ImageFiles, str]:
        name, slash, rest = key.partition("/")
        return (self.parts[name], rest) if slash and name in self.parts else (self.main, key)


def name_of_part(data: str) -> str:
    """What the keys of `--unlabelled-data data` begin with: the name of the folder, or of the file without its ending."""
    path = pathlib.Path(os.path.normpath(pathlib.Path(data).absolute()))  # a link keeps its own name
    return path.stem if path.is_file() else path.name


def joined(main: ImageList, parts: Sequence[tuple[str, ImageList]]) -> ImageList:
    """The images of `main` with those of `parts` (what the user called them, and their lists), which get no label.

    Keys of a part are `NAME/key`, so that they do not depend on where it lies. DataError where `main` or another part has
    keys that begin so.
    """
    labels = dict(zip(main.keys, main.labels, strict=True))
    owners = {key.partition("/")[0]: main.root for key in main.keys if "/" in key}
    files: dict[str, ImageFiles] = {}
    for data, part in parts:
        name = name_of_part(data)
        if not name or name in owners:
            raise DataError(
                f"--unlabelled-data {data} would give its images keys that begin with '{name}/', as {owners.get(name, data)} does; "
                "rename the folder, or give a link of another name."
            )
        owners[name], files[name] = data, part.files
        labels |= {f"{name}/{key}": -1 for key in part.keys}
    keys = tuple(sorted(labels, key=natural_key))
    origins = [
        {"name": name_of_part(data), "images": len(part.keys), **part.origin, "path": part.origin.get("path", data)}
        for data, part in parts
    ]
    return dataclasses.replace(
        main,
        keys=keys,
        labels=tuple(labels[key] for key in keys),
        files=JoinedFiles(main.files, files),
        ignored=main.ignored + sum(part.ignored for _, part in parts),
        notes=(*main.notes, *(note for _, part in parts for note in part.notes)),
        origin={**main.origin, "unlabelled": origins},
    )
