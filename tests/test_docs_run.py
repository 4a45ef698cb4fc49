"""Every line of shell and every block of Python of every page is run, in the order of its page, but for those in tests/docs_lines.py.

A page has a folder of its own in which lies what its reader has (tests/docs_world.py); what would take the network, a GPU or hours is
replaced (tests/docs_small.py). Where a page shows another way to one output, what the earlier way left is taken away first.
"""

import io
import itertools
import pathlib
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from command_line import tcs
from docs_lines import LISTINGS, NOT_RUN, PYTHON_ELSEWHERE, SIGNATURES
from docs_small import PYTHON, small, small_python
from docs_world import FIRST, OF_THE_PAGE, write_later, write_photographs
from pages import PAGES, ROOT, Line, blocks_of_lines, listings_of, name_of, parts_of

TEXTS = {name_of(page): page.read_text(encoding="utf-8") for page in PAGES}
LED = [page for page, text in TEXTS.items() if blocks_of_lines(text) or "```python" in text]


def reason(page: str, text: str, table: dict[str, dict[str, str]]) -> str | None:
    """Why a line or block is not run here."""
    return next((why for begins, why in table.get(page, {}).items() if text.startswith(begins)), None)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """What the reader of a first page has: photographs."""
    root = tmp_path_factory.mktemp("first")
    write_photographs(root, tmp_path_factory.mktemp("made") / "digits")
    return root


@pytest.fixture(scope="module")
def later(first: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """What the reader of a later page has: what the first ones make."""
    root = shutil.copytree(first, tmp_path_factory.mktemp("later"), dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_later()
    return root


@pytest.fixture
def begun(
    page: str, request: pytest.FixtureRequest, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The working folder of the page; modules that lie in it are forgotten afterwards."""
    world = request.getfixturevalue("first" if page in FIRST else "later")
    monkeypatch.chdir(shutil.copytree(world, tmp_path / "here"))
    monkeypatch.syspath_prepend(str(tmp_path / "here"))
    OF_THE_PAGE.get(page, lambda: None)()
    yield
    for name, module in list(sys.modules.items()):
        if str(tmp_path) in str(getattr(module, "__file__", None)):
            del sys.modules[name]


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("begun")
@pytest.mark.parametrize("page", LED)
def test_what_a_page_shows_runs(page: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    listed = "".join(f"{path}\n" for path in pathlib.Path("photos").iterdir())  # of `find photos`
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed.encode())))
    names: dict[str, Any] = {"__name__": "block"}
    for part in parts_of(TEXTS[page]):
        if not isinstance(part, str):
            run_block(page, part, capsys)
        elif not reason(page, part, PYTHON_ELSEWHERE):
            exec(compile(small_python(page, part), page, "exec"), names)


def run_block(page: str, lines: Sequence[Line], capsys: pytest.CaptureFixture[str]) -> None:
    """The lines of a block, three dots in one of them being the options of the line before."""
    written: set[str] = set()
    before: list[str] = []
    for line in lines:
        if reason(page, line.text, NOT_RUN):
            continue
        assert line.calls, f"{page}: {line.text!r} is neither of tcs nor in tests/docs_lines.py"
        for call in line.calls:
            words = [each for word in call for each in (before[1:] if word == "..." else [word])]
            outputs = {here for option, here in itertools.pairwise(words) if option == "--out"}
            for path in map(pathlib.Path, outputs - written):
                take_away(path)
            run(capsys, words)
            assert "--dry-run" in words or all(pathlib.Path(path).exists() for path in outputs)
            written |= outputs
            before = words


def take_away(path: pathlib.Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def run(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    """The command, and the one that it says to run next."""
    code, told, said = tcs(capsys, *small(words))
    assert code == 0, f"tcs {' '.join(words)}\n(as tcs {' '.join(small(words))}):\n{said}"
    if words[0] == "suggest":
        fill_in(pathlib.Path(words[words.index("--out") + 1]))
    for line in told.splitlines():
        if line.startswith("  tcs suggest "):
            code, _, said = tcs(capsys, *shlex.split(line)[1:])
            assert code == 0, f"{line}\n{said}"


def fill_in(table: pathlib.Path) -> None:
    """The classes that a reader would write, which the names of files begin with."""
    header, *rows = table.read_text().splitlines()
    classes = [re.split(r"[-/]", row, maxsplit=1)[0] for row in rows]
    table.write_text("\n".join([header, *map(str.__add__, rows, classes)]) + "\n")


@pytest.mark.parametrize("table", [NOT_RUN, PYTHON_ELSEWHERE], ids=["lines", "Python"])
def test_what_is_not_run_is_there_and_has_a_reason(table: dict[str, dict[str, str]]) -> None:
    for page, reasons in table.items():
        parts = parts_of(TEXTS[page])
        texts = [each for part in parts for each in ([part] if isinstance(part, str) else [line.text for line in part])]
        for begins, why in reasons.items():
            assert sum(text.startswith(begins) for text in texts) == 1, f"{page}: {begins!r}"
            for named in re.findall(r"tests/\w+\.py", why):
                assert table is NOT_RUN or page.rpartition("/")[2] in (ROOT / named).read_text(), (
                    f"{named} has no {page}"
                )
                assert (ROOT / named).is_file()


def test_every_other_block_has_a_reason() -> None:
    for page, text in TEXTS.items():
        begins = {block: reason(page, block, LISTINGS) for language, block in listings_of(text) if language != "text"}
        assert page == SIGNATURES or [block for block, why in begins.items() if not why] == [], page
        assert len(begins) == len(LISTINGS.get(page, {})) or page == SIGNATURES, (
            f"{page}: reasons for what is not there"
        )


def test_what_is_replaced_in_blocks_of_python_is_there() -> None:
    for page, replaced in PYTHON.items():
        assert [text for text in replaced if text not in TEXTS[page]] == []


def test_lines_of_a_page_are_told_from_tables_and_listings() -> None:
    text = "x\n\n    path,class\n    a,b\n\n\n    tcs fit a \\\n        --out b  # c\n    curl x > y\n\n```bash\n# no\nnew-program\n```\n"
    assert [[line.text for line in block] for block in blocks_of_lines(text)] == [
        ["tcs fit a --out b  # c", "curl x > y"],
        ["new-program"],
    ]
    assert listings_of(f"{text}\n```javascript\nx\n```\n") == [("", "path,class\na,b"), ("javascript", "x")]
    assert blocks_of_lines(text)[0][0].calls == [["fit", "a", "--out", "b"]]


def test_the_first_page_has_one_run_twice() -> None:
    """What its command says, its Python says."""
    page = TEXTS["docs/start/first-student.md"]
    calls = [call for block in blocks_of_lines(page) for line in block for call in line.calls]
    (words,) = [call for call in calls if call[0] == "distill"]
    (block,) = [part for part in parts_of(page) if isinstance(part, str)]
    given = {"--data": words[1]} | {
        name: value for name, value in zip(words, [*words[1:], "--"], strict=True) if name[:2] == "--"
    }
    named = {name.removeprefix("--").replace("-", "_"): value for name, value in given.items()}
    written = {name.replace("models", "model"): value for name, value in re.findall(r'"(\w+)": \(?"?([^",}]+)', block)}
    assert written == {name: "True" if value.startswith("--") else value for name, value in named.items()}
