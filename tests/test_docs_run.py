"""The commands of the pages that lead a newcomer, run one after the other as they stand, on a few digits.

What a page names is put in place: `photos`, `labels.csv`, `my/test` ... Only what would take the network or hours is replaced: the teacher
by the embedded one, students by tiny ones, sizes and steps by small ones, and published weights by none.
"""

import csv
import dataclasses
import pathlib
import re
import shlex
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from command_line import tcs
from pages import ROOT, SHELL, code_blocks, commands_of
from PIL import Image

import cache
from tcs.cli import main
from tcs.demonstration.demo import teacher_card
from tcs.demonstration.digits import write_digits

A_CLASS, LABELLED, CLASSES = 12, 5, 3
STUDENT = "test_efficientnet"
TRAINED = {"--model": STUDENT, "--steps": "4"}
# command -> options that are replaced where they stand, and given where they do not
GIVEN: dict[str, dict[str, str]] = {
    "extract": {"-j": "0"},
    "distill": TRAINED | {"--student-img-size": "32", "--student-batch-size": "8", "--held-out": "0", "-j": "0"},
    "train": TRAINED | {"--img-size": "32", "--batch-size": "8", "--held-out": "0"},
    "latency": {"--seconds": "0.01", "--threads": "1", "--batch-size": "2", "--against": "test_vit,img_size=32"},
}
SMALLER = {"--shots": "2", "--n": "8"}  # where they stand
OF_THE_TEACHER = {"--teacher": 1, "--teacher-checkpoint": 1, "--readout": 1, "--img-size": 1}
IDLE = {
    "--pretrained": 0,
    "--student-checkpoint": 1,
    "--class-prior": 1,
}  # published weights; shares of classes that digits have not


def embedded_teacher() -> list[str]:
    card, weights = teacher_card()
    words = ["--teacher", card["teacher"], "--teacher-checkpoint", str(weights), "--readout", card["readout"]]
    words += ["--img-size", str(card["img_size"]), "--mean", *map(str, card["mean"]), "--std", *map(str, card["std"])]
    return words + [
        word for name, value in card["teacher_kwargs"].items() for word in ("--teacher-kwargs", f"{name}={value}")
    ]


def without(words: list[str], options: dict[str, int]) -> list[str]:
    """The words without these options and as many values as each has."""
    kept: list[str] = []
    left = 0
    for word in words:
        if word in options:
            left = options[word]
        elif left:
            left -= 1
        else:
            kept.append(word)
    return kept


def small(words: list[str]) -> list[str]:
    """The command as it is run here."""
    is_given_a_teacher = "--teacher" in words and words[0] in ("extract", "distill")
    given = GIVEN.get(words[0], {})
    words = without(words, IDLE | dict.fromkeys(given, 1) | (OF_THE_TEACHER if is_given_a_teacher else {}))
    words = [SMALLER.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    return [
        *words,
        *(embedded_teacher() if is_given_a_teacher else []),
        *(word for item in given.items() for word in item),
    ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """The folder that a reader of the pages has."""

    root: pathlib.Path

    def copied(self, place: pathlib.Path) -> pathlib.Path:
        shutil.copytree(self.root, place, dirs_exist_ok=True)
        return place


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("world")
    digits = write_digits(tmp_path_factory.mktemp("made") / "digits")
    rows = [("path", "class")]
    for folder in sorted((digits / "train").iterdir())[:CLASSES]:
        images = sorted(folder.iterdir())
        for number, path in enumerate(images[:A_CLASS]):
            name = f"{folder.name}-{number}.png"
            for place in ("photos", f"my/train/{folder.name}"):
                (root / place).mkdir(parents=True, exist_ok=True)
                shutil.copy(path, root / place / name)
            if number < LABELLED:
                rows.append((name, folder.name))
        for number, path in enumerate(images[A_CLASS : A_CLASS + 6]):
            for place in ("my/pool", "new-photos"):
                (root / place).mkdir(parents=True, exist_ok=True)
                shutil.copy(path, root / place / f"{folder.name}-{number}.png")
    for folder in sorted((digits / "test").iterdir())[:CLASSES]:
        (root / "my" / "test" / folder.name).mkdir(parents=True)
        for path in sorted(folder.iterdir())[:4]:
            shutil.copy(path, root / "my" / "test" / folder.name / path.name)
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    Image.new("RGB", (40, 30), "#335577").save(root / "photo.jpg")
    return World(root=root)


def commands_to_run(page: str) -> list[list[str]]:
    blocks = [block for language, block in code_blocks((ROOT / page).read_text(encoding="utf-8")) if language in SHELL]
    return [words for block in blocks for words in commands_of(block)]


def fill_in(table: pathlib.Path) -> None:
    """The classes that a reader would write, which the names of the digits begin with."""
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([header, *(f"{row}{row.partition('-')[0]}" for row in rows)]) + "\n")


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


# pages and what there is in the end; what is left out of each is run elsewhere (demo, doctor) or needs what digits have not
LED: dict[str, tuple[str, ...]] = {
    "README.md": ("work/run", "predictions.csv", "student.onnx", "next.csv"),
    "docs/start/first-student.md": ("work/run", "predictions.csv", "student.onnx"),
    "docs/how-to/stages.md": ("train.store", "test.store", "run", "c.safetensors", "t.h5", "run-elsh"),
    "docs/how-to/resume.md": ("photos.store",),
    "docs/how-to/labelling.md": ("round1.csv", "round1.jpg", "run", "round2.csv"),
}
# pages that begin where docs/how-to/stages.md ends
LATER: dict[str, tuple[str, ...]] = {
    "docs/how-to/look.md": ("look.html", "mine.html", "bits.html"),
    "docs/how-to/pools.md": ("work", "work2", "probe"),
    "docs/how-to/benchmark.md": ("grid/results.csv", "report.html"),
}


@pytest.fixture(scope="module")
def staged(world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The world after docs/how-to/stages.md, and a recipe."""
    root = world.copied(tmp_path_factory.mktemp("staged"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for words in commands_to_run("docs/how-to/stages.md"):
            with pytest.raises(SystemExit) as ended:
                main(small(words))
            assert ended.value.code == 0
    (recipe,) = [
        block for language, block in code_blocks((ROOT / "docs/how-to/benchmark.md").read_text()) if language == "yaml"
    ]
    (root / "recipe.yaml").write_text(small_recipe(recipe))
    return World(root=root)


def small_recipe(text: str) -> str:
    for there, here in (
        ('[resnet18, "vit_tiny_patch16_224"]', f"[{STUDENT}]"),
        ("[1, 4, 16]", "[1, 2]"),
        ("[0, 1, 2, 3, 4]", "[0]"),
        ("{img_size: 224, steps: 2000}", "{img_size: 32, steps: 2, batch_size: 8, held_out: 0}"),
    ):
        assert text.count(there) == 1
        text = text.replace(there, here)
    return text + "\nreferences: [teacher-probe]\nlatency: false\n"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", LATER)
def test_the_commands_of_a_later_page_run(
    page: str,
    staged: World,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(staged.copied(tmp_path / "here"))
    for words in commands_to_run(page):
        run(capsys, words)
    assert [name for name in LATER[page] if not pathlib.Path(name).exists()] == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", LED)
def test_the_commands_of_a_page_run(
    page: str, world: World, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world.copied(tmp_path / "here"))
    found = commands_to_run(page)
    assert len(found) > 3
    for words in found:
        run(capsys, words)
    assert [name for name in LED[page] if not pathlib.Path(name).exists()] == []


def python_of(page: str) -> list[str]:
    return [block for language, block in code_blocks((ROOT / page).read_text(encoding="utf-8")) if language == "python"]


def distilled(
    monkeypatch: pytest.MonkeyPatch, world: World, place: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """work/ and student.onnx, as the first page leaves them."""
    monkeypatch.chdir(world.copied(place))
    run(
        capsys,
        ["distill", "photos", "--label-file", "labels.csv", "--teacher", "x", "--val-split", "0.2", "--out", "work"],
    )


@pytest.mark.timeout(600)
def test_the_page_of_phones_and_browsers_runs(
    world: World, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    distilled(monkeypatch, world, tmp_path / "here", capsys)
    run(capsys, commands_to_run("docs/how-to/deploy.md")[0])
    (block,) = python_of("docs/how-to/deploy.md")
    names: dict[str, Any] = {"__name__": "block"}
    exec(compile(block, "deploy.md", "exec"), names)
    assert names["likeliest"] in cache.open("work/train.store").classes
    assert names["pixels_HW3"].shape == (32, 32, 3)
    pathlib.Path("student.onnx").rename("resnet18.onnx")
    exec(compile(python_of("docs/how-to/export.md")[0], "export.md", "exec"), names)
    assert names["told"]["classes"] == list(cache.open("work/train.store").classes)


@pytest.mark.timeout(600)
def test_the_python_of_the_first_pages_runs(
    world: World, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world.copied(tmp_path / "here"))
    card, weights = teacher_card()
    options = {"teacher_checkpoint": str(weights), "teacher_kwargs": card["teacher_kwargs"], "img_size": card["img_size"],
               "workers": 0, "steps": 4, "student_img_size": 32, "student_batch_size": 8, "held_out": 0}  # fmt: skip
    (first,) = python_of("docs/start/first-student.md")
    lines = [line for line in first.splitlines() if line.startswith(("teacher = ", "student = "))]
    here = {"teacher": {"teacher": card["teacher"]}, "student": {"models": (STUDENT,)} | options}
    run_with(first, [(line, f"{name} = {here[name]!r}") for line, name in zip(lines, here, strict=True)])
    assert capsys.readouterr().out.startswith(STUDENT)
    (readme,) = python_of("README.md")
    (line,) = [line for line in readme.splitlines() if line.startswith("options = ")]
    shorter = {"models": (STUDENT,), "img_size": 32, "steps": 4, "batch_size": 8, "held_out": 0}
    run_with(readme, [(line, f"options = {shorter!r}")])
    assert pathlib.Path("run4", STUDENT, "folded.safetensors").exists()


def test_the_first_page_has_one_run_twice() -> None:
    """What its command says, its Python says."""
    (words,) = [words for words in commands_to_run("docs/start/first-student.md") if words[0] == "distill"]
    (block,) = python_of("docs/start/first-student.md")
    given = {"--data": words[1]} | {
        name: value for name, value in zip(words, [*words[1:], "--"], strict=True) if name[:2] == "--"
    }
    named = {name.removeprefix("--").replace("-", "_"): value for name, value in given.items()}
    written = {name.replace("models", "model"): value for name, value in re.findall(r'"(\w+)": \(?"?([^",}]+)', block)}
    assert written == {name: "True" if value.startswith("--") else value for name, value in named.items()}


def run_with(block: str, replaced: list[tuple[str, str]]) -> None:
    for there, here in replaced:
        assert block.count(there) == 1, there
        block = block.replace(there, here)
    run_block: Callable[..., None] = exec
    run_block(compile(block, "block", "exec"), {"__name__": "block"})
