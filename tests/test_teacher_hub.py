"""The Hub: its failures as one line with a remedy, and timm's own gaps refused."""

import os
from typing import Any

import pytest
import timm
import torch

from tcs.config.extract import ExtractConfig
from tcs.errors import ModelError
from tcs.teacher.hub import HUB_ERRORS, build, from_hub, hub_refusal
from tcs.teacher.model import load_teacher


def raised(name: str) -> Exception:
    import huggingface_hub.errors as hub

    cls = getattr(hub, name)
    error: Exception = cls.__new__(cls)
    error.args = ("401 Client Error\nsecond line",)
    return error


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("GatedRepoError", "access to the repository is not granted .403.; accept its terms .* or give a local file"),
        ("RepositoryNotFoundError", "no such repository, or a private one; check the name, or log in"),
        ("RevisionNotFoundError", "no such revision; check what follows the @"),
        (
            "LocalEntryNotFoundError",
            "not in the local cache, and the Hub cannot be reached; connect once, or give a loc",
        ),
        ("OfflineModeIsEnabled", "the Hub is switched off; unset HF_HUB_OFFLINE once, or use --teacher-checkpoint"),
        ("RemoteEntryNotFoundError", "the repository lacks timm's files; use a repository with config.json"),
        ("HFValidationError", "that is no repository's name; write hf-hub:owner/name"),
    ],
)
def test_failures_of_the_hub_have_their_remedies(name: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def create_model(*arguments: Any, **options: Any) -> None:
        raise raised(name)

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(timm, "create_model", create_model)
    for fetch in (from_hub, build):
        with pytest.raises(ModelError, match=f"weights of teacher hf-hub:a/b could not be loaded: .*{words}") as error:
            fetch("hf-hub:a/b", {})
        assert "\n" not in str(error.value)


def test_table_names_the_clients_own_exceptions_particular_ones_first() -> None:
    import huggingface_hub.errors as hub

    classes = [getattr(hub, name) for name, _, _ in HUB_ERRORS]
    for i, cls in enumerate(classes):
        assert not any(issubclass(cls, earlier) for earlier in classes[:i])


def test_offline_and_not_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    for name in ("test_vit.r160_in1k", "hf-hub:timm/test_vit.r160_in1k"):
        with pytest.raises(
            ModelError,
            match=r"could not be loaded: they are not in the local cache, .* \(HF_HUB_OFFLINE is set\); conn",
        ):
            load_teacher(ExtractConfig(data="d", out="o", teacher=name))


def test_config_of_another_library_is_told_apart(tmp_path: Any) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["Dinov2Model"], "model_type": "dinov2"}')
    for fetch in (from_hub, build):  # a repository's config.json is read by the same code of timm's
        with pytest.raises(
            ModelError, match=r"config.json of teacher local-dir:.* names no timm architecture; use timm's"
        ):
            fetch(f"local-dir:{tmp_path}", {})


def test_unknown_failures_keep_their_first_line() -> None:
    assert "could not be loaded (boom); check the connection" in hub_refusal("x", OSError("boom\nmore"))


def published(monkeypatch: pytest.MonkeyPatch, name: str, state: dict[str, torch.Tensor], **kwargs: Any) -> None:
    """As if the Hub had `state` for timm's entry of that name."""
    plain = timm.create_model

    def create_model(model: str, **options: Any) -> torch.nn.Module:
        overlay = {"state_dict": dict(state), "source": ""}
        return plain(model, pretrained_cfg_overlay=overlay, **{**options, **kwargs})

    monkeypatch.setattr(timm, "create_model", create_model)


def test_gaps_that_timm_passes_over_are_refused_or_told(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}
    whole = timm.create_model("convnextv2_atto", num_classes=0, **small).state_dict()
    headless = {key: value for key, value in whole.items() if not key.startswith("head.norm.")} | {
        "norm_pre.weight": whole["stem.0.bias"]
    }
    with monkeypatch.context() as patch:
        published(patch, "convnextv2_atto.fcmae", headless, **small)
        _, report = from_hub("convnextv2_atto.fcmae", {})
    assert report.missing == ("head.norm.weight", "head.norm.bias")
    assert report.left_out == {"unknown to timm's model": ("norm_pre.weight",)}
    holed = {key: value for key, value in headless.items() if key != "stages.2.blocks.0.norm.bias"}
    published(monkeypatch, "convnextv2_atto.fcmae", holed, **small)
    with pytest.raises(
        ModelError, match=r"weights of teacher convnextv2_atto.fcmae do not fit it: 1 missing, .*stages.2"
    ):
        from_hub("convnextv2_atto.fcmae", {})


def test_loading_outside_our_watch_stays_strict() -> None:
    with pytest.raises(ModelError, match="could not be loaded"):
        from_hub("no_such_model_at_all", {})
    with pytest.raises(RuntimeError, match="Missing key"):
        torch.nn.Linear(2, 2).load_state_dict({})
