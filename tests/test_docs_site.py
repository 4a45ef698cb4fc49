"""The site's order: what the sidebar lists, what README shows, and that the glossary has the words of printed tables. Nothing is built."""

import itertools
import pathlib
import re

import pytest
from pages import ROOT, code_blocks

from docs.pages import results
from tcs.config.evaluate import HEADS, PROJECTIONS
from tcs.coordinates.described import _ceiling_table
from tcs.pipeline.outcome import HEADER
from tcs.pool_labels.options import ESTIMATORS
from tcs.reporting.compression import size_table
from tcs.reporting.teachers import MEASURES

DOCS = ROOT / "docs"
LISTED = re.compile(r"^(?:.+ <(?P<named>[\w/-]+)>|(?P<bare>[\w/-]+))$", re.MULTILINE)


def toctrees(page: pathlib.Path) -> dict[str, list[str]]:
    """Caption -> pages, of the lists that make the sidebar."""
    found = {}
    for language, block in code_blocks(page.read_text(encoding="utf-8")):
        if language == "{toctree}":
            caption = re.search(r'^:caption: "?(.*?)"?$', block, re.MULTILINE)
            found[caption[1] if caption else ""] = [each["named"] or each["bare"] for each in LISTED.finditer(block)]
    return found


def glossary() -> dict[str, str]:
    """Term -> its explanation; an entry may have several terms, with commas between."""
    ((_, block),) = [
        block
        for block in code_blocks((DOCS / "start" / "glossary.md").read_text(encoding="utf-8"))
        if block[0] == "{glossary}"
    ]
    entries = [entry.split("\n    ") for entry in block.split("\n\n")]
    return {term: " ".join(lines) for terms, *lines in entries for term in terms.split(", ")}


def test_the_sidebar_has_every_how_to_page_once_in_the_groups_of_the_index() -> None:
    groups = {
        caption.removeprefix("How to: "): [name.removeprefix("how-to/") for name in names if name != "how-to/index"]
        for caption, names in toctrees(DOCS / "index.md").items()
        if caption.startswith("How to: ")
    }
    assert sorted(itertools.chain(*groups.values())) == sorted(
        page.stem for page in (DOCS / "how-to").glob("*.md") if page.stem != "index"
    )
    assert max(map(len, groups.values())) <= 7, "a group is to be seen at one look"
    parts = re.split(r"^\*\*(.+)\*\*$", (DOCS / "how-to" / "index.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    told = {
        title.lower(): re.findall(r"^- \[.+?\]\(([\w-]+)\.md\)", text, re.MULTILINE)
        for title, text in zip(parts[1::2], parts[2::2], strict=True)
    }
    assert told == groups


@pytest.mark.parametrize("folder", ["explanations", "explanations/papers", "reference", "results"])
def test_an_index_lists_the_pages_of_its_folder(folder: str) -> None:
    (names,) = toctrees(DOCS / folder / "index.md").values()
    there = {page.stem for page in (DOCS / folder).glob("*.md") if page.stem != "index"}
    assert {name for name in names if "/" not in name} == there


def test_the_pictures_of_the_readme_are_there_and_one_is_for_narrow_windows() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(r'(?:src|srcset)="([^"]+)"', text)
    assert [(ROOT / name).name for name in named] == ["students-phone.svg", "students.svg"]
    assert all((ROOT / name).parent == results.STATIC and (ROOT / name).is_file() for name in named)
    assert re.search(r'<source media="\(max-width: \d+px\)" srcset="[^"]*-phone.svg">', text)
    assert re.search(r'<img [^>]*alt="[^"]{40,}"', text)


def printed_words() -> set[str]:
    """The columns and names in the tables that `tcs distill`, `fit` and `probe` print, and what the bar of `tcs train` shows."""
    row = {"shots": 1, "axes": "pca", "power": 0.0, "components": 16, "accuracy": 50.0}
    sizes = {"method": "uncompressed", "components": 32, "params": 99, "compression": 1.0}
    (ceiling,) = [line for line in _ceiling_table([row]) if line.startswith("shots")]
    compressed = size_table([sizes, sizes | {"method": "jl", "components": 16}]).splitlines()[0]
    columns = [cell.strip() for cell in compressed.strip("|").split("|") if ":" not in cell]
    bar = {"loss", "images/s", "data wait", "agreement", "R²", "temperature"}
    measured = {*MEASURES, "effective rank", "s an image", "projection", "CKA"}
    fitted = {word for word in ceiling.split() if "=" not in word}
    return {*HEADER, *HEADS, *PROJECTIONS, *ESTIMATORS, *measured, *fitted, *columns, *bar}


def test_the_glossary_has_the_words_of_printed_tables() -> None:
    words = printed_words()
    assert {"shots", "power", "compression", "K", "ridge-em", "top-5", "k-NN", "jl"} <= words
    assert words <= set(glossary())


def test_the_glossary_is_in_order_and_explains_each_word_in_a_few_sentences() -> None:
    found = glossary()
    entries = list(dict.fromkeys(found.values()))
    first = {text: term for term, text in reversed(found.items())}
    assert [first[text] for text in entries] == sorted((first[text] for text in entries), key=str.lower)
    for term, text in found.items():
        plain = re.sub(r"\s*\[[^\]]*\]\([^)]*\)|`[^`]*`", "", text)
        assert plain.endswith("."), f"{term}: {text}"
        assert len(re.findall(r"[.] [A-Z0-9`]", plain)) <= 2, f"{term}: {text}"
    assert sum("](" in text for text in entries) >= len(entries) - 2
