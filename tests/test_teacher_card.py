"""`--teacher-card`: the same store as by options; what a card cannot say; cards that cannot be followed."""

import dataclasses
import json
import pathlib
import shutil
from typing import Any

import pytest
from artefacts import make_store
from command_line import tcs as command
from finished import write_images

import cache
import tcs
from tcs.config.distill import DistillConfig
from tcs.config.extract import ExtractConfig
from tcs.demonstration.demo import teacher_card
from tcs.teacher.card import with_card

CARD, WEIGHTS = teacher_card()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """`images`, `card.json` and its weights. To be read only."""
    folder = tmp_path_factory.mktemp("card")
    write_images(folder / "images", make_store(folder / "images.store", rows=12))
    (folder / "card.json").write_text(json.dumps(CARD))
    shutil.copy(WEIGHTS, folder / CARD["weights"])
    return folder


def by_card(folder: pathlib.Path, **options: Any) -> ExtractConfig:
    return ExtractConfig(str(folder / "images"), out="x.store", teacher_card=str(folder / "card.json"), **options)


def changed(folder: pathlib.Path, place: pathlib.Path, **changes: Any) -> pathlib.Path:
    """A folder with the card changed (None takes a part away), beside its weights and the images."""
    shutil.copytree(folder, place)
    card = {name: value for name, value in (CARD | changes).items() if value is not None}
    (place / "card.json").write_text(json.dumps(card))
    return place


def test_a_card_gives_the_store_of_its_options(
    folder: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["extract", str(folder / "images"), "--teacher-card", str(folder / "card.json"), "-j", "0"]
    code, _, told = command(capsys, *words, "--out", str(tmp_path / "card.store"))
    assert code == 0, told
    kwargs = {name: tuple(value) for name, value in CARD["teacher_kwargs"].items()}
    tcs.extract(
        folder / "images",  # type: ignore[call-overload]
        out=tmp_path / "options.store",
        teacher=CARD["teacher"],
        teacher_checkpoint=folder / CARD["weights"],
        teacher_kwargs=kwargs,
        readouts=("pool",),
        img_size=32,
        mean=CARD["mean"],
        std=CARD["std"],
        crop_pct=1.0,
        interpolation="bicubic",
        workers=0,
    )
    first, second = (cache.open(tmp_path / f"{name}.store") for name in ("card", "options"))
    assert first.identity == second.identity
    assert first.content_digests == second.content_digests
    recorded = first.manifest.provenance["config"]
    assert (recorded["teacher"], recorded["teacher_checkpoint"]) == (CARD["teacher"], str(folder / CARD["weights"]))
    assert cache.verify(tmp_path / "card.store").problems == ()
    assert tcs.recompute(tmp_path / "card.store", sample=4)["pool"].rows == 4  # type: ignore[call-overload]


def test_what_the_command_says_goes_before_the_card(folder: pathlib.Path) -> None:
    config = with_card(by_card(folder, img_size=48, std=(0.5, 0.5, 0.5), readouts=("cls",)))
    assert (config.img_size, config.std, config.readouts) == (48, (0.5, 0.5, 0.5), ("cls",))
    assert (config.mean, config.interpolation, config.teacher_card) == (tuple(CARD["mean"]), "bicubic", None)
    plain = ExtractConfig("x", out="y", teacher="z")
    assert with_card(plain) is plain


def test_a_card_by_hand_may_name_a_teacher_alone(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "card.json").write_text(json.dumps({"teacher": "resnet18.a1_in1k", "img_size": 96}))
    config = with_card(dataclasses.replace(by_card(folder), teacher_card=str(tmp_path / "card.json")))
    assert (config.teacher, config.img_size, config.teacher_checkpoint) == ("resnet18.a1_in1k", 96, None)
    assert (config.readouts, config.mean) == (("avg",), None)


def test_a_chain_takes_a_card(folder: pathlib.Path) -> None:
    options = {"data": "d", "out": "w", "models": ("m",), "teacher_card": str(folder / "card.json")}
    assert DistillConfig.from_options(options).extract.teacher_card == str(folder / "card.json")
    with pytest.raises(tcs.ConfigError, match=r"^--teacher is missing; name one, or give the --teacher-card of one\.$"):
        DistillConfig.from_options({"data": "d", "out": "w", "models": ("m",)})


@pytest.mark.parametrize(
    "option",
    [{"teacher": "resnet18"}, {"teacher_checkpoint": "w.safetensors"}, {"teacher_kwargs": {"depth": 3}}],
    ids=str,
)
def test_a_card_excludes_what_it_says_itself(folder: pathlib.Path, option: dict[str, Any]) -> None:
    (name,) = option
    with pytest.raises(
        tcs.ConfigError, match=rf"names teacher and weights, so it excludes --{name.replace('_', '-')}; give one"
    ):
        by_card(folder, **option)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"teacher": None},
            r"card\.json lacks 'teacher', and no release wrote it so; give a card that tcs pretrain wrote",
        ),
        ({"img_size": "32"}, r"card\.json has 32 for 'img_size'"),
        (
            {"mean": [0.1]},
            r"card\.json cannot be followed: mean is \(0\.1,\); it must be a tuple of 3 numbers or None\.$",
        ),
        ({"teacher_kwargs": [1]}, r"card\.json has \[1\] for 'teacher_kwargs'"),
        (
            {"weights": "gone.safetensors"},
            r"gone\.safetensors, which .*card\.json names, is missing; put it beside the card\.$",
        ),
        (
            {"weights_digest": "00"},
            r"digits_teacher\.safetensors holds other weights than those that .*card\.json tells of",
        ),
        (
            {"teacher": "os:getcwd"},
            r"names the Python function os:getcwd, and no code is run for a file; give it with --teacher\.$",
        ),
        ({"format": 99}, r"card\.json is of format 99, and this release reads no later one"),
    ],
    ids=str,
)
def test_cards_that_cannot_be_followed(
    folder: pathlib.Path, tmp_path: pathlib.Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(tcs.ArtefactError, match=message) as caught:
        with_card(by_card(changed(folder, tmp_path / "card", **changes)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "cannot be read"), ("[]", "must hold a JSON object"), (None, "is missing")]
)
def test_files_that_are_no_cards(folder: pathlib.Path, tmp_path: pathlib.Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "card.json").write_text(text)
    with pytest.raises(tcs.ArtefactError, match=rf"card\.json .*{message}"):
        with_card(dataclasses.replace(by_card(folder), teacher_card=str(tmp_path / "card.json")))
