"""What came of a verification: what the thing is, what was looked at, and a line for each fault."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

from cache.errors import CacheError
from tcs.errors import TcsError, first_line


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArtefactVerification:
    """`kind` in words; `checked`: what was read and found sound; `problems`: one line each, as the commands tell them."""

    path: pathlib.Path
    kind: str
    checked: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """The result as JSON types."""
        return {
            "path": str(self.path),
            "kind": self.kind,
            "sound": self.is_sound,
            "checked": list(self.checked),
            "problems": list(self.problems),
        }

    def lines(self) -> list[str]:
        """The result in words: a line for each problem, then one for the whole."""
        looked = "; ".join(self.checked) or "nothing of it could be read"
        if self.is_sound:
            return [f"{self.path} is sound, {self.kind}: {looked}."]
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        return [*self.problems, f"{self.path}, {self.kind}: {count}; sound: {looked}."]


class Notes:
    """Gathers what is found, part by part, so that one fault does not hide the next."""

    def __init__(self) -> None:
        self.checked: list[str] = []
        self.problems: list[str] = []

    @contextlib.contextmanager
    def part(self, what: str) -> Iterator[None]:
        """A part of a thing, called `what`: noted as sound where nothing is raised, else with the error's line."""
        try:
            yield
        except (TcsError, CacheError) as error:
            self.problems.append(str(error))
        except OSError as error:
            self.problems.append(f"{error.filename or what} cannot be read ({error.strerror or first_line(error)}).")
        else:
            self.checked.append(what)
