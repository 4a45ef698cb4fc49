"""Licences: every one that timm's registry has falls under a rule, and provenance says whose word it is."""

import pathlib

import pytest
import timm
from safetensors.torch import save_file
from timm.models import get_pretrained_cfg

from tcs.config.extract import ExtractConfig
from tcs.teacher.licence import licence_line, licence_of, licence_terms
from tcs.teacher.model import load_teacher


@pytest.mark.parametrize(
    ("licence", "terms", "words"),
    [
        ("apache-2.0", "permissive", "licence apache-2.0"),
        ("MIT", "permissive", "licence MIT"),
        ("cc-by-nc-4.0", "non-commercial", "licence cc-by-nc-4.0: non-commercial use only"),
        ("fair-noncommercial-research-license", "non-commercial", "research-license: non-commercial use only"),
        ("dinov3-license", "custom", "licence dinov3-license: terms of its own, read them before use"),
        ("never-seen-before", "custom", "terms of its own"),
        (None, "unknown", "licence unknown: ask whoever made the weights"),
        ("unknown", "unknown", "licence unknown"),
    ],
)
def test_terms(licence: str | None, terms: str, words: str) -> None:
    facts = licence_of({"license": licence, "paper_ids": "arXiv:1"}, "timm")
    assert (facts["licence_terms"], facts["paper_ids"]) == (terms, ["arXiv:1"])
    assert words in licence_line(facts)


def test_registry_of_timm_is_covered() -> None:
    terms = {name: licence_terms(get_pretrained_cfg(name).license or "unknown") for name in timm.list_pretrained()}
    assert terms["vit_base_patch16_224.mae"] == "non-commercial"
    assert terms["vit_small_patch16_dinov3.lvd1689m"] == "custom"
    assert terms["vit_small_patch14_dinov2.lvd142m"] == "permissive"


def test_a_file_has_the_licence_of_a_tag_only_where_one_is_named(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "w.safetensors")
    found = {}
    for name in ("test_vit", "test_vit.r160_in1k"):
        config = ExtractConfig(data="d", out="o", teacher=name, teacher_checkpoint=str(tmp_path / "w.safetensors"))
        teacher = load_teacher(config)
        teacher.announce()
        found[name] = teacher.provenance
        assert "licence" not in teacher.identity
    assert found["test_vit"]["licence"] == "unknown"
    assert found["test_vit.r160_in1k"]["licence"] == "apache-2.0"
    assert found["test_vit.r160_in1k"]["licence_according_to"] == "timm, by its tag"
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith(
        "teacher test_vit: licence unknown: ask whoever made the weights; 160x160 bicubic, crop 0.95"
    )
    assert told[1].startswith("weights w.safetensors: ")
