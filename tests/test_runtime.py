"""The place of a process among ranks, and what depends on it."""

import pytest

from tcs.errors import ConfigError
from tcs.runtime import Place, pick_device, place, progress_bar, say


def be(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_place_is_what_torchrun_says(monkeypatch: pytest.MonkeyPatch) -> None:
    be(monkeypatch)
    assert place() == Place(0, 0, 1)
    be(monkeypatch, RANK="5", LOCAL_RANK="1", WORLD_SIZE="8")
    assert place() == Place(rank=5, local_rank=1, world_size=8)
    be(monkeypatch, RANK="0", WORLD_SIZE="1")
    assert place() == Place()


@pytest.mark.parametrize(
    "variables",
    [
        {"RANK": "2", "WORLD_SIZE": "2"},
        {"RANK": "1"},
        {"RANK": "x", "WORLD_SIZE": "2"},
        {"RANK": "0", "WORLD_SIZE": ""},
        {"RANK": "-1", "WORLD_SIZE": "2"},
        {"RANK": "1", "LOCAL_RANK": "-1", "WORLD_SIZE": "2"},
    ],
)
def test_a_place_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    be(monkeypatch, **variables)
    with pytest.raises(
        ConfigError, match=r"RANK is '.*'; torchrun sets them to whole numbers, .* torchrun or unset them"
    ):
        place()


def test_only_rank_0_speaks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    be(monkeypatch, RANK="1", WORLD_SIZE="2")
    say("nobody hears this")
    with progress_bar(3, "work", "units") as bar:
        bar.advance(3)
    assert capsys.readouterr().err == ""
    be(monkeypatch, RANK="0", WORLD_SIZE="2")
    say("all hear this")
    assert capsys.readouterr().err == "all hear this\n"


def test_cuda_is_the_device_of_the_local_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    be(monkeypatch, RANK="63", LOCAL_RANK="63", WORLD_SIZE="64")
    with pytest.raises(
        ConfigError, match=r"'cuda:63', which .*; use --device cpu, or no more ranks than there are GPUs"
    ):
        pick_device("cuda")
    assert str(pick_device("cpu")) == "cpu"
    be(monkeypatch)
    with pytest.raises(ConfigError, match=r"'cuda:63', which this machine cannot use .*; use --device cpu\.$"):
        pick_device("cuda:63")
