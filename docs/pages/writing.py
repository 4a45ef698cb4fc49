"""Pages that are made: written only where their text is another one, so that a second build reads them no more."""

import pathlib
import re
from collections.abc import Mapping

from cache import atomic_write_bytes

MARKUP = re.compile(r"([\\*_<>\[\]|{}$#])")
CODE = re.compile(r"(`+)(.+?)\1")


def write_pages(folder: pathlib.Path, pages: Mapping[str, str]) -> None:
    """Make `folder` hold these files (name -> text, names may have folders in them) and no other page, table or figure.

    Two builds at once do not see half a file of each other.
    """
    wanted = {folder / name: text for name, text in pages.items()}
    for path in [path for path in folder.rglob("*") if path.is_file() and path not in wanted]:
        if path.suffix != ".partial":  # of another build
            path.unlink(missing_ok=True)
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            atomic_write_bytes(path, text.encode())


def escaped(text: str) -> str:
    """Plain text as MyST Markdown: what stands between backticks stays code, all other markup is shown as it is."""
    parts, end = [], 0
    for found in CODE.finditer(text):
        parts += [MARKUP.sub(r"\\\1", text[end : found.start()]), found.group()]
        end = found.end()
    return "".join([*parts, MARKUP.sub(r"\\\1", text[end:])])


def plain_docstring(_app: object, what: str, _name: str, _of: object, _options: object, lines: list[str]) -> None:
    """Docstrings are plain text with code between backticks: other marks of reStructuredText are shown as they are.

    What stands before a colon in the first line of a property's would be read as its type, hence an empty comment before it.
    """
    for number, line in enumerate(lines):
        lines[number] = "".join(
            part if part.startswith("`") else re.sub(r"([*|])", r"\\\1", part) for part in re.split(r"(`[^`]*`)", line)
        )
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]
