"""Pages that `make docs` makes, without Sphinx: nothing of commands, public names and committed results is left out or typed by hand."""

import dataclasses
import pathlib
import re
from collections.abc import Sequence

import click
import pytest
from pages import ROOT, code_blocks
from tables import cells_of

import cache
import tcs
from docs.pages import commands, first_run, python_api, results, signatures, small, words
from docs.pages.writing import escaped, plain_docstring, write_pages
from tcs import functional
from tcs.cli import COMMANDS, group
from tcs.plain_files import load_table

TELEPHONE_TEXT = 358  # pixels of text in a window of 390


@pytest.fixture(scope="module")
def parts() -> dict[str, str]:
    return results.result_parts()


def test_every_command_has_a_page_with_its_options() -> None:
    pages = commands.command_pages()
    assert {name.removesuffix(".md") for name in pages} == {*COMMANDS, "index"}
    context = click.Context(group)
    for name in COMMANDS:
        command = group.get_command(context, name)
        assert command is not None
        below = (
            [command.get_command(context, each) for each in command.list_commands(context)]
            if isinstance(command, click.Group)
            else []
        )
        for each in [command, *below]:
            assert each is not None
            for option in (each for each in each.params if isinstance(each, click.Option) and not each.hidden):
                assert re.search(rf"^````{{option}} .*{option.opts[-1]}\b", pages[f"{name}.md"], re.MULTILINE), (
                    option.opts
                )
        assert f"- [`tcs {name}`]({name}.md): " in pages["index.md"]
        assert re.search(rf"^{name}$", pages["index.md"], re.MULTILINE)


def test_names_of_options_in_the_help_are_code() -> None:
    page = commands.command_pages()["train.md"]
    assert "Training steps (2000 without `--steps` and `--epochs`)." in page
    assert re.search(r"``--|[^`\w-]--[a-z-]+`", page) is None
    assert re.search(r"^````\{option\} [^-]", page, re.MULTILINE) is None


def test_every_public_name_has_a_place() -> None:
    pages = python_api.api_pages()
    for module, names in (("tcs", tcs.MODULE_OF), ("cache", cache.__all__), ("functional", functional.__all__)):
        headings = set(re.findall(r"^## (\w+)$", pages[f"{module}.md"], re.MULTILINE))
        assert headings == {name for name in names if not name.endswith("Config")}
    configurations = pages["configurations.md"]
    assert set(re.findall(r"^## (\w+)$", configurations, re.MULTILINE)) == {
        name for name in tcs.MODULE_OF if name.endswith("Config")
    }
    train = configurations.partition("## TrainConfig")[2].partition("\n## ")[0]
    assert {f"`{field.name}`" for field in dataclasses.fields(tcs.TrainConfig)} <= set(train.split())
    assert "Labelled images per class" in train


def test_what_pages_include_is_made(parts: dict[str, str]) -> None:
    for page in (ROOT / "docs").glob("*/**/*.md"):
        for language, _ in code_blocks(page.read_text(encoding="utf-8")):
            if language.startswith("{include}"):
                place = (page.parent / language.removeprefix("{include}").strip()).resolve()
                assert place.exists() or place.name in parts, f"{page}: {place}"


def test_tables_hold_the_committed_numbers(parts: dict[str, str]) -> None:
    record = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    heads = dict(cells_of(row) for row in parts["heads.md"].splitlines()[2:])
    for name, title in (("flowers5", "flowers5, Lite2"), ("digits", "digits, embedded teacher")):
        (line,) = [line for line in record.splitlines() if line.startswith(f"| {title} |") and " ± " in line]
        assert [cell.replace("->", "→") for cell in cells_of(line)[1]] == heads[name]
    rounds = dict(cells_of(row) for row in parts["suggest-rounds.md"].splitlines()[2:])
    lines = record.partition("**Which images to label**")[2].splitlines()
    drawn, suggested = [cells_of(line)[1][1:] for line in lines if "| drawn |" in line or "| `tcs suggest` |" in line][
        :2
    ]
    assert rounds["CIFAR-10, SimCLR ResNet-10, 5,000 rows"] == [*drawn, *suggested]
    losses = dict(cells_of(row) for row in parts["losses.md"].splitlines()[2:])
    assert losses["`review`"][1].startswith("72")


@pytest.mark.parametrize("name", ["students.svg", "students-phone.svg"])
def test_the_figures_of_the_readme_are_of_the_committed_rows(parts: dict[str, str], name: str) -> None:
    told = re.compile(r"<!-- rows (\w+) -->")
    drawn, wanted = (told.search(text) for text in ((results.STATIC / name).read_text(encoding="utf-8"), parts[name]))
    assert drawn is not None
    assert wanted is not None
    assert drawn[1] == wanted[1], "rows of students were added: python -m docs.pages.results draws the figure anew"


def test_the_table_of_the_readme_is_of_the_committed_rows() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    for row in results.readme_rows(results.students_rows()):
        assert row in lines, "rows of students were added: python -m docs.pages.results writes the table anew"


def test_the_numbers_in_sentences_of_the_readme_are_those_of_the_record() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8").replace("\n", " ")
    record = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    demo = record.partition("**The demo**")[2].partition("frozen teacher | ridge probe")
    at_one_shot = [
        cells_of(line)[1][1].split(" ")[0] for line in demo[0].splitlines() if re.search("labels |tcs-pool", line)
    ]
    labels, ours, labels_of_another, ours_of_another = at_one_shot[-4:]
    assert f"reach {ours} and {ours_of_another} %, those of labels alone {labels} and {labels_of_another} %" in readme
    assert f"probe of their teacher {demo[2].split('|')[1].split('±')[0].strip()} %" in readme
    turns = sorted(int(told) for told in re.findall(r"^\| turn \d \| (\d+) \(", record, re.MULTILINE))
    assert f": {turns[0]} and {turns[1]} s from" in readme
    online = results.turns_tables(load_table(results.RESULTS / "online-teacher" / "online-teacher.csv"))
    epochs = [line for line in online.splitlines() if re.match(r"\| (timm feature task|lightly-train),", line)]
    ratios = [float(cells_of(line)[1][-1].split(" ")[0]) for line in epochs]
    assert len(ratios) == 4
    assert f"[{min(ratios):.1f} to {max(ratios):.1f} times]" in readme


def test_what_the_first_pages_show_was_printed_by_their_run() -> None:
    printed = (ROOT / "docs" / "start" / "first-run.txt").read_text(encoding="utf-8")
    pages = {
        name: (ROOT / "docs" / "start" / f"{name}.md").read_text(encoding="utf-8")
        for name in ("first-student", "reading")
    }
    shown = [block for text in pages.values() for language, block in code_blocks(text) if language == "text"]
    written_by_hand = [block for block in shown if block.startswith(("photos/", "path,class"))]
    assert (len(shown), len(written_by_hand)) == (11, 2)
    missing = [line for block in shown if block not in written_by_hand for line in block.splitlines()]
    assert [line for line in missing if line not in printed.splitlines()] == []
    assert f"\n$ {first_run.COMMANDS[0]}\n" in printed
    student, teacher = re.findall(r"\| 50 \| ([\d.]+) \| 100.00 \|", printed)
    assert f"knows {float(student):g} % where its teacher knows {float(teacher):g} %" in pages["first-student"]
    low, high = re.findall(r"top1 [\d.]+ \[([\d.]+) - ([\d.]+)\]", printed)[0]
    assert f"{float(low):.0f} to {float(high):.0f} here" in pages["reading"]
    _, taken = re.findall(r"^  2 roses .* (\d+) +(\d+)$", printed, re.MULTILINE)[0]
    assert f"of 40 roses {taken} were taken for tulips" in pages["reading"]
    assert re.findall(r"largest difference from the run \S+\d", printed)[0] in pages["reading"]


def test_a_line_of_a_table_is_found_by_its_first_cell() -> None:
    text = "x\n| a (b) | 1 |\n| c | 2 |\n"
    assert results.with_rows(text, ["| c | 3 / **4** |"]) == "x\n| a (b) | 1 |\n| c | 3 / **4** |\n"
    with pytest.raises(ValueError, match="not enough values"):
        results.with_rows(text, ["| d | 3 |"])


@pytest.mark.parametrize("name", ["students-phone.svg", "heads-phone.svg"])
def test_the_letters_of_a_telephones_figure_can_be_read_on_one(parts: dict[str, str], name: str) -> None:
    points = re.search(r'<svg [^>]*width="([\d.]+)pt"', parts[name])
    sizes = [
        float(size)
        for size in re.findall(r"font: ([\d.]+)px|font-size: ([\d.]+)px", parts[name])
        for size in size
        if size
    ]
    assert points is not None
    assert len(sizes) > 30
    assert min(sizes) * TELEPHONE_TEXT / float(points[1]) >= 10
    below = "labelled images a class</text>"
    assert parts[name].count(below) == parts[name.replace("-phone", "")].count(below) >= 4


def test_minutes_of_a_small_machine_are_those_of_the_committed_speeds(parts: dict[str, str]) -> None:
    rows = load_table(results.RESULTS / "extraction-vit" / "extraction-vit.csv")
    first, second = (float(row["value"]) for row in rows if row["contestant"] == "extract")
    minutes = 50_000 / ((first + second) / 2) / 60
    (line,) = [line for line in parts["small-passes.md"].splitlines() if line.startswith("| ViT-S/16, 224 px |")]
    assert cells_of(line)[1][-1] == f"{minutes:.0f} min, {50_000 * 384 * 2 / 1e6:.0f} MB"
    together = [cells_of(line)[1] for line in parts["small-whole.md"].splitlines()[2:]]
    assert [cells[1] for cells in together] == [together[0][1]] * 3  # training costs steps, whatever the images are
    assert len(parts["small-students.md"].splitlines()) == 2 + len(small.TRAINED) + len(small.ONLINE)


def test_long_words_of_code_may_break_and_no_others() -> None:
    whole, long = "--student-img-size", "resnet18,layers=(1,1,1,1),channels=(16,32,48,64)"
    html = (
        f'<span class="pre">{whole}</span> <span class="pre">{long}</span> <span class="pre">&lt;{"x" * 28}&gt;</span>'
    )
    jointed = "resnet18,<wbr>layers=(1,<wbr>1,<wbr>1,<wbr>1),channels=(16,<wbr>32,<wbr>48,<wbr>64)"
    assert words.marked(html) == html.replace(f'"pre">{long}', f'"pre long">{jointed}')


def test_signatures_are_as_one_would_write_them() -> None:
    factory = "(a: str, *, b: ~collections.abc.Mapping[str, ~typing.Any] = <factory>, c: float = 1.3333333333333333)"
    assert signatures.readable(factory) == "(a: str, *, b: Mapping[str, Any] = {}, c: float = 1.3333)"
    array = "(x: ~numpy.ndarray[tuple[~typing.Any, ...], ~numpy.dtype[~numpy.floating[~typing.Any]]], of: ~cache.reader.Store)"
    assert signatures.readable(array) == "(x: NDArray[floating[Any]], of: ~cache.reader.Store)"
    many = ", ".join(f"o{number}: int = 0" for number in range(signatures.MOST))
    assert signatures.readable(f"(a: str, *, {many}, out: str)") == "(a: str, *, out: str, **options)"
    assert signatures.readable("(what is no Python)") == "(what is no Python)"


def test_what_stands_before_a_colon_in_a_property_is_no_type() -> None:
    napoleon = pytest.importorskip("sphinx.ext.napoleon")
    lines = ["The labels: the latest."]
    plain_docstring(None, "property", "x", None, None, lines)
    parsed = napoleon.GoogleDocstring(lines, napoleon.Config(), None, "property", "x").lines()
    assert parsed == ["..", "", "The labels: the latest."]


def test_cells_of_sentences_keep_some_width_and_numbers_do_not() -> None:
    sentence = "<p>share of each row&apos;s <em>nearest</em> rows</p>"
    html = f'<tr><td>{sentence}</td><td><p>11.23</p></td>\n<td class="text-right">{sentence}</td></tr>'
    assert words.marked(html) == html.replace("<td>", '<td class="sentence">', 1)


def test_an_arrow_in_a_cell_is_one_sign() -> None:
    html = "<p>a -&gt; b</p><td>1.5 -&gt; 2.5</td><td><code>x -&gt;y</code></td>"
    assert words.marked(html) == html.replace("1.5 -&gt; 2.5", "1.5 → 2.5")


def test_a_second_build_writes_nothing_and_takes_away_what_is_gone(tmp_path: pathlib.Path) -> None:
    write_pages(tmp_path, {"a.md": "1", "b/c.md": "2"})
    before = (tmp_path / "a.md").stat().st_mtime_ns
    write_pages(tmp_path, {"a.md": "1"})
    assert (tmp_path / "a.md").stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.rglob("*.md")] == ["a.md"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("RUN/<student>/ and NAME[,k=v...]", r"RUN/\<student\>/ and NAME\[,k=v...\]"),
        ("`a_b` stays, a_b is escaped", r"`a_b` stays, a\_b is escaped"),
        ("10 %  [default: 4|8]", r"10 %  \[default: 4\|8\]"),
    ],
)
def test_plain_text_is_shown_as_it_is(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_marks_in_docstrings_are_shown_as_they_are() -> None:
    lines = ["mean |a - b| of `x * y`"]
    plain_docstring(None, "function", "f", None, None, lines)
    assert lines == [r"mean \|a - b\| of `x * y`"]


def test_turns_are_medians_and_ratios_inside_a_round() -> None:
    rows: Sequence[dict[str, str]] = [
        {
            "table": "t",
            "contestant": name,
            "round": str(number),
            "value": str(value),
            "unit": "s",
            "base": "a",
            "ratio": "0",
        }
        for name, values in {"a": (1, 2, 4), "b": (3, 4, 4)}.items()
        for number, value in enumerate(values)
    ]
    last = results.turns_tables(rows).splitlines()[-1]
    assert last == "| b | 4.00 [3.00 - 4.00] | 3 | 2.00 [1.00 - 3.00] |"
