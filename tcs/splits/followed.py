"""Which label files a store follows, as its provenance records it: a file that has moved, or is spelled otherwise, is the same source."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

FOLLOWED = "label_files"  # entry of the provenance


@dataclasses.dataclass(frozen=True)
class Followed:
    """`files` as they were named to the commands, the present one last; `gone` are images that the data set has lost since, which these
    files may name."""

    files: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()

    @property
    def present(self) -> str | None:
        """The file that counts."""
        return self.files[-1] if self.files else None

    def is_source(self, file: object) -> bool:
        """Whether this is one of the files, by its spelling or by its place."""
        return isinstance(file, str) and (file in self.files or _place(file) in set(map(_place, self.files)))

    def by(self, path: str) -> "Followed":
        """The same with `path` as the file that counts; another spelling of the present one changes nothing."""
        is_present = self.present is not None and _place(path) == _place(self.present)
        files = self.files if is_present else (*(file for file in self.files if file != path), path)
        return Followed(files, self.gone)

    def without(self, gone: Iterable[str], there: Iterable[str] = ()) -> "Followed":
        """The same once these images have gone, and those are there (again); unchanged where no file is followed."""
        return Followed(self.files, tuple(sorted({*self.gone, *gone}.difference(there)))) if self.files else self

    def entries(self, provenance: Mapping[str, Any]) -> dict[str, Any]:
        """What a provenance has to say instead; empty where it says so already."""
        if self == followed_in(provenance):
            return {}
        config = provenance.get("config")
        is_extracted_by = isinstance(config, Mapping) and config.get("label_file") is not None
        renamed = {"config": {**config, "label_file": self.present}} if is_extracted_by and config else {}
        return {FOLLOWED: {"files": list(self.files), "gone": list(self.gone)}, **renamed}


def followed_in(provenance: Mapping[str, Any]) -> Followed:
    """What a store records; of one that only tells with which label file it was extracted, that one."""
    found, config = provenance.get(FOLLOWED), provenance.get("config")
    if isinstance(found, Mapping):
        return Followed(_texts(found.get("files")), _texts(found.get("gone")))
    path = config.get("label_file") if isinstance(config, Mapping) else None
    return Followed((path,)) if isinstance(path, str) else Followed()


def _texts(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list | tuple) else ()


def _place(file: str) -> pathlib.Path:
    return pathlib.Path(file).resolve()
