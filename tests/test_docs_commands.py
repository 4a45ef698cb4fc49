"""Every command that a page shows is one that `tcs` takes, its values included; links lead somewhere; options in prose are there."""

import itertools
import pathlib
import re
import shlex
import tomllib
from collections.abc import Iterator

import click
import pytest
import timm
from pages import PAGES, ROOT, SHELL, anchors_of, code_blocks, commands_of, links_of, name_of, prose_of

from tcs.cli import group
from tcs.grid.recipe import plan_cells
from tcs.grid.recipe_file import load_grid

OTHERS = [
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "cache" / "FORMAT.md",
    ROOT / "benchmarks" / "fewshot" / "README.md",
]
INCLUDED = {
    ROOT / "docs/results/record.md": "benchmarks/RESULTS.md",
    ROOT / "docs/reference/store-format.md": "cache/FORMAT.md",
}
OF_OTHER_PROGRAMS = {
    "--kd-model-name",
    "--logdir",
    "--no-index",
    "--find-links",
    "--max-restarts",
    "--standalone",
    "--nproc-per-node",
    "--config-settings",
    "--shm-size",
}

READOUT = re.compile(
    r"cls|avg|pool|map|block\d+(\+norm)?\.(cls|avg|map)|stage\d+\.(avg|map)"
)  # as docs/how-to/teachers.md has them
PUBLISHED = {part for name in timm.list_pretrained() for part in (name, name.partition(".")[0])}
STAND_INS = {"NAME", "mine"}  # for the reader's own


def leaf(words: list[str]) -> tuple[click.Command, click.Context, list[str]]:
    """The command that the words name, its context, and the words after it."""
    command, context = group, click.Context(group, info_name="tcs")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"no command {words[0]}"
        command, context, words = found, click.Context(found, info_name=words[0], parent=context), words[1:]  # type: ignore[assignment]
    return command, context, words


def parse(words: list[str]) -> None:
    """As the command line does, up to the call of the command; three dots stand for what a page leaves out."""
    if words[:1] == ["--debug"]:
        words = words[1:]
    is_cut = "..." in words
    command, context, rest = leaf([word for word in words if word != "..."])
    if isinstance(command, click.Group) or "--help" in rest:
        return
    try:
        command.make_context(str(context.info_name), rest, parent=context.parent)
    except click.MissingParameter:
        assert is_cut, f"tcs {shlex.join(words)} lacks something"


def commands_in(page: pathlib.Path) -> Iterator[list[str]]:
    for language, block in code_blocks(page.read_text(encoding="utf-8")):
        if language in SHELL:
            yield from commands_of(block)


@pytest.fixture
def files_of_options(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with the configuration files that pages name, for `-c` is read while options are parsed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    for name in ("run.yaml", "run/args.yaml"):
        (tmp_path / name).write_text("store: train.store\nout: run\nmodel: [resnet18]\n")


@pytest.mark.usefixtures("files_of_options")
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_of_a_page_is_parsed(page: pathlib.Path) -> None:
    for words in commands_in(page):
        try:
            parse(words)
        except click.UsageError as error:
            pytest.fail(f"{name_of(page)}: tcs {shlex.join(words)}: {error.format_message()}")


def test_pages_show_every_command() -> None:
    shown = {" ".join(words[: 1 + (words[0] == "cache")]) for page in PAGES for words in commands_in(page) if words}
    context = click.Context(group)
    below = group.get_command(context, "cache")
    assert isinstance(below, click.Group)
    there = {*group.list_commands(context), *(f"cache {name}" for name in below.list_commands(context))} - {
        "cache",
        "help",
    }
    assert there <= shown, f"no page shows {sorted(there - shown)}"


def values_of(words: list[str], option: str) -> list[str]:
    return [value for name, value in itertools.pairwise(words) if name == option]


def unknown_names(text: str) -> list[str]:
    """Teachers and readouts that commands and Python of a page name and that are none; the runs of pages replace them."""
    blocks = [(language, block) for language, block in code_blocks(text) if language in (*SHELL, "python")]
    calls = [words for _, block in blocks for words in commands_of(block) if words[0] in ("extract", "distill")]
    teachers = [name for words in calls for name in values_of(words, "--teacher")]
    readouts = [name for words in calls for name in values_of(words, "--readout")]
    python = "".join(block for language, block in blocks if language == "python")
    teachers += re.findall(r"\bteacher\b\"?[=:] ?\"([^\"]+)\"", python)
    readouts += [
        name
        for names in re.findall(r"\breadouts\"?[=:] ?\(([^)]*)\)", python)
        for name in re.findall('"([^"]+)"', names)
    ]
    return [name for name in teachers if ":" not in name and name not in PUBLISHED | STAND_INS] + [
        name for name in readouts if not READOUT.fullmatch(name) and name not in STAND_INS
    ]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_teachers_and_readouts_of_a_page_are_there(page: pathlib.Path) -> None:
    assert unknown_names(page.read_text(encoding="utf-8")) == []


def test_a_misspelt_teacher_is_seen() -> None:
    shell = (
        "```bash\ntcs extract a --teacher vit_smal_patch16_224 --readout csl --out b"
        " && tcs distill c --teacher resnet18 --readout block3.cls\n```\n"
    )
    python = '```python\ntcs.extract("a", teacher="resnet19", readouts=("cls", "clss"))\nx = {"teacher": "resnet18.a1_in2k"}\n```\n'
    assert unknown_names(shell + python) == ["vit_smal_patch16_224", "resnet19", "resnet18.a1_in2k", "csl", "clss"]


def test_a_command_that_is_not_there_is_seen() -> None:
    words = commands_of("find . | tcs predict run - --topk 1 | cut -f1 && torchrun -m tcs extract a \\\n  --out b")
    assert words == [["predict", "run", "-", "--topk", "1"], ["extract", "a", "--out", "b"]]
    with pytest.raises(click.UsageError, match="--tpok"):
        parse(["predict", "run", "x", "--tpok", "1"])
    with pytest.raises(AssertionError, match="lacks"):
        parse(["extract", "a"])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_prose_are_there(page: pathlib.Path) -> None:
    for span in re.findall(r"`tcs ([a-z][^`\n]*)`", prose_of(page.read_text(encoding="utf-8"))):
        try:
            leaf([word for word in span.split() if re.fullmatch("[a-z-]+", word)])
        except click.UsageError as error:
            pytest.fail(f"{name_of(page)}: tcs {span}: {error.format_message()}")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_recipes_of_a_page_are_plans(page: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for number, (language, block) in enumerate(code_blocks(page.read_text(encoding="utf-8"))):
        if language == "yaml" and "students:" in block:
            path = tmp_path / f"{number}.yaml"
            path.write_text(block)
            assert plan_cells(load_grid(path))


def test_targets_of_make_and_extras_of_pip_are_there() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in [*PAGES, ROOT / "CONTRIBUTING.md"])
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"^(?:    )?make ([a-z-]+)", text, re.MULTILINE)) | set(
        re.findall(r"`make ([a-z-]+)`", text)
    )
    assert {"demo", "docs"} <= named <= targets
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = {name for names in re.findall(r"(?:\.|tcs-distill)\[([a-z,]+)\]", text) for name in names.split(",")}
    assert {"plots", "fast", "export"} <= asked <= set(extras)


def test_errors_that_the_page_explains_are_told() -> None:
    sources = "".join(
        path.read_text(encoding="utf-8") for name in ("tcs", "cache") for path in (ROOT / name).rglob("*.py")
    )
    told = re.sub(r'"\s*\n\s*f?"', "", sources)
    table = (ROOT / "docs/reference/messages.md").read_text(encoding="utf-8")
    words = [
        word
        for line in table.splitlines()
        if line.startswith("| `")
        for word in re.findall("`([^`]+)`", line.split("|")[1])
    ]
    assert len(words) > 10
    assert [word for word in words if word not in told] == []


def options_of(command: click.Command, context: click.Context) -> set[str]:
    found = {name for parameter in command.params for name in [*parameter.opts, *parameter.secondary_opts]} | {"--help"}
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            found |= options_of(below, context)
    return found


@pytest.fixture(scope="module")
def options() -> set[str]:
    return options_of(group, click.Context(group)) | OF_OTHER_PROGRAMS


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_option_in_prose_is_there(page: pathlib.Path, options: set[str]) -> None:
    named: set[str] = set()
    for span in re.findall(r"`([^`\n]+)`", prose_of(page.read_text(encoding="utf-8"))):
        if not span.startswith(("python", "pip", "make", "apt")):
            named |= set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*(?![\w-]*\.\.\.)", span))
    assert {name for name in named if name not in options and not name.endswith("-")} == set()


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=name_of)
def test_links_lead_somewhere(page: pathlib.Path) -> None:
    for words, target in links_of(page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert words, f"{name_of(page)}: the link to {target} has no words"
        if any(
            place.is_relative_to(ROOT / made)
            for made in ("docs/reference/api", "docs/reference/commands", "docs/results/made")
        ):
            continue  # made by make docs, which fails for a page that is not there
        assert place.exists(), f"{name_of(page)}: {target}"
        if anchor:
            assert anchor in anchors_of(ROOT / INCLUDED[place] if place in INCLUDED else place), (
                f"{name_of(page)}: {target}"
            )


def test_links_of_the_notebook_lead_somewhere() -> None:
    notebook = ROOT / "docs" / "notebooks" / "first-student.py"
    lines = notebook.read_text(encoding="utf-8").splitlines()
    links = links_of("\n".join(line.removeprefix("# ") for line in lines if line.startswith("# ")))
    assert len(links) >= 4
    assert [target for _, target in links if not (notebook.parent / target).exists()] == []


def test_pages_that_sources_name_are_there() -> None:
    named = {
        name
        for folder in ("tcs", "cache", "tests", "benchmarks", "scripts", "docs")
        for path in (ROOT / folder).rglob("*.py")
        if "_build" not in path.parts
        for name in re.findall(r"(?<![\w/])docs/[\w/-]+\.md\b", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
