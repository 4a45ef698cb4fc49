"""The pages that people read: which there are, and what commands, links and headings stand in them."""

import dataclasses
import pathlib
import re
import shlex
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parent.parent
MADE = ("docs/_build", "docs/reference/api", "docs/reference/commands", "docs/results/made")  # by make docs
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in (ROOT / "docs").glob("**/*.md") if not any(page.is_relative_to(ROOT / made) for made in MADE)),
]  # fmt: skip
FENCE = re.compile(r"^(`{3,}|:{3,})(.*)$")
SHELL = ("", "bash")
PROGRAMS = (
    "cat",
    "find",
    "make",
    "pip",
    "python",
    "tcs",
    "torchrun",
)  # where a block has no language, one of these at the beginning of a line makes it one of shell


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """A line of shell, or several that a backslash joins, and the calls of `tcs` in it, as words."""

    text: str
    calls: list[list[str]]


def name_of(page: pathlib.Path) -> str:
    return str(page.relative_to(ROOT))


def code_blocks(text: str) -> list[tuple[str, str]]:
    """(language, text) of every block: between fences, or indented by four after an empty line."""
    blocks: list[tuple[str, str]] = []
    lines, language, taken, before = text.splitlines(), None, [], ""
    fence = ""
    for line in [*lines, ""]:
        found = FENCE.match(line)
        if fence:
            if line.strip() == fence:
                blocks.append((str(language), "\n".join(taken)))
                fence, taken = "", []
            else:
                taken.append(line)
        elif found:
            fence, language = found[1], found[2].strip()
        elif line.startswith("    ") and (taken or not before.strip()):
            taken.append(line[4:])
        elif taken:
            blocks.append(("", "\n".join(taken)))
            taken = []
        before = line
    return blocks


def prose_of(text: str) -> str:
    """The page without its blocks of code."""
    kept, fence = [], ""
    for line in text.splitlines():
        found = FENCE.match(line)
        if fence:
            fence = "" if line.strip() == fence else fence
        elif found:
            fence = found[1]
        elif not line.startswith("    "):
            kept.append(line)
    return "\n".join(kept)


def blocks_of_lines(text: str) -> list[list[Line]]:
    """The lines of every block of shell; tables and listings, which have no language either, have none."""
    blocks = [(language, block) for language, block in code_blocks(text) if language in SHELL]
    return [found for language, block in blocks if (found := list(_lines_of(language, block)))]


def parts_of(text: str) -> list[list[Line] | str]:
    """What of a page can be run, in its order: blocks of shell as their lines, blocks of Python as they stand."""
    blocks = [(language, block) for language, block in code_blocks(text) if language in (*SHELL, "python")]
    parts = [block if language == "python" else list(_lines_of(language, block)) for language, block in blocks]
    return [part for part in parts if part]


def _lines_of(language: str, block: str) -> Iterator[Line]:
    if language or _is_shell(block):
        for line in _joined(block):
            yield Line(text=line, calls=commands_of(line))


def listings_of(text: str) -> list[tuple[str, str]]:
    """(language, text) of the blocks that are neither of shell nor of Python, nor Sphinx's own."""
    blocks = [(language, block) for language, block in code_blocks(text) if not language.startswith("{")]
    return [each for each in blocks if each[0] not in ("bash", "python") and not (each[0] == "" and _is_shell(each[1]))]


def _is_shell(block: str) -> bool:
    """Whether a block without a language is of shell, all of it: a line of it begins as one of shell does."""
    return any(line.split()[0] in PROGRAMS for line in _joined(block))


def _joined(block: str) -> list[str]:
    """The lines of a block but for comments and empty ones, those joined that a backslash parts."""
    lines = re.sub(r"\s*\\\n\s*", " ", block).splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def commands_of(block: str) -> list[list[str]]:
    """Every call of `tcs` in a block of shell, as its words: after a pipe, under torchrun, behind `&&`."""
    found = []
    for line in re.sub(r"\\\n\s*", " ", block).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        call: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("|&;<>"):
                found.append(call)
                call = []
            else:
                call.append(word)
    return [words for call in found if (words := _from_tcs(call))]


def _from_tcs(call: list[str]) -> list[str]:
    if call[:1] == ["tcs"]:
        return call[1:]
    for place, word in enumerate(call[1:], start=1):
        if word == "tcs" and call[place - 1] == "-m":
            return call[place + 1 :]
    return []


def anchors_of(page: pathlib.Path) -> set[str]:
    """What links to a heading of the page end in: its words in small letters, joined by hyphens, without other signs."""
    kept: list[str] = []
    for heading in re.findall(r"^#{1,6} (.+?)\s*$", prose_of(page.read_text(encoding="utf-8")), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")
        kept.append(slug if slug not in kept else f"{slug}-{sum(each == slug for each in kept)}")
    return set(kept)


def links_of(text: str) -> list[tuple[str, str]]:
    """(words, target) of every link to a place in the project."""
    found = re.findall(r"!?\[([^\]]*)\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "code", prose_of(text)))
    return [(words, target) for words, target in found if not re.match(r"[a-z]+:", target)]
