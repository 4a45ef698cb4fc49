"""Weights of the Hub without a Hub: refused at once and in one line, and read from the cache where they are there."""

import pathlib
import socket
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import huggingface_hub.constants
import pytest
import timm
from safetensors.torch import save_file

from tcs import hub
from tcs.config.extract import ExtractConfig
from tcs.errors import DataError, ModelError
from tcs.extraction.extract import extract
from tcs.hub import hub_answers
from tcs.teacher.availability import require_at_hand
from tcs.teacher.model import load_teacher
from tcs.teacher.source import parse_source

NAME, REPOSITORY = "test_vit.r160_in1k", "timm/test_vit.r160_in1k"


@pytest.fixture(autouse=True)
def cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """An empty cache of the Hub, no proxy, and nothing remembered of an earlier attempt."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    hub._takes_connections.cache_clear()
    yield folder
    hub._takes_connections.cache_clear()


def unreachable(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No name resolves; the names that were asked for."""
    asked: list[str] = []

    def resolve(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


def put_in_cache(folder: pathlib.Path) -> None:
    """The repository of NAME, as the Hub's client would have left it."""
    repository = folder / f"models--{REPOSITORY.replace('/', '--')}"
    snapshot = repository / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")
    save_file(timm.create_model("test_vit").state_dict(), snapshot / "model.safetensors")


def passed(**options: Any) -> None:
    """As far as the images, of which there are none: listing them is the next that fails."""
    with tempfile.TemporaryDirectory() as folder:
        extract(ExtractConfig(data=folder, out="never.store", **options))


@pytest.mark.parametrize("name", [NAME, f"hf-hub:{REPOSITORY}", f"hf-hub:{REPOSITORY}@v1"])
def test_a_hub_that_cannot_be_reached_is_told_before_images_are_listed(
    monkeypatch: pytest.MonkeyPatch, cache_folder: pathlib.Path, name: str
) -> None:
    asked = unreachable(monkeypatch)
    with pytest.raises(
        ModelError,
        match=r"weights of teacher .*test_vit.* could not be loaded: they are not in the local cache, and the Hub cannot be "
        r"reached; connect once, or give a local file with --teacher-checkpoint FILE; the cache is .*hub \(HF_HUB_CACHE\)\.$",
    ) as error:
        passed(teacher=name)
    assert str(cache_folder) in str(error.value)
    with pytest.raises(ModelError, match="cannot be reached"):
        passed(teacher=name)
    assert asked == ["huggingface.co"]  # one attempt for the whole process


def test_data_that_is_none_is_told_before_the_hub_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = unreachable(monkeypatch)
    with pytest.raises(DataError, match="'no such folder' does not exist; DATA must be a folder"):
        extract(ExtractConfig(data="no such folder", out="never.store", teacher=NAME))
    assert asked == []


def test_the_hub_switched_off_is_told_without_an_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = unreachable(monkeypatch)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        ModelError, match=r"cannot be reached \(HF_HUB_OFFLINE is set\); connect once, .* FILE; the cache"
    ):
        passed(teacher=NAME)
    assert asked == []


def test_what_is_in_the_cache_is_read_from_there_without_a_request(
    monkeypatch: pytest.MonkeyPatch, cache_folder: pathlib.Path
) -> None:
    asked = unreachable(monkeypatch)
    put_in_cache(cache_folder)
    with pytest.raises(DataError, match="holds no images"):  # so the teacher was no obstacle
        passed(teacher=NAME)
    teacher = load_teacher(ExtractConfig(data="d", out="o", teacher=NAME))
    assert teacher.weights.matched == len(timm.create_model("test_vit").state_dict())
    assert asked == ["huggingface.co"]
    assert huggingface_hub.constants.HF_HUB_OFFLINE is False


def test_half_a_repository_in_the_cache_fails_at_once(
    monkeypatch: pytest.MonkeyPatch, cache_folder: pathlib.Path
) -> None:
    unreachable(monkeypatch)
    put_in_cache(cache_folder)
    snapshot = next(cache_folder.glob("*/snapshots/*"))
    (snapshot / "model.safetensors").rename(snapshot / "config.json")
    with pytest.raises(ModelError, match="not in the local cache, and the Hub cannot be reached; connect once"):
        load_teacher(ExtractConfig(data="d", out="o", teacher=NAME))


@pytest.mark.parametrize(
    "options",
    [
        {"teacher": NAME, "teacher_checkpoint": "w.safetensors"},
        {"teacher": "local-dir:folder"},
        {"teacher": "module:function"},
        {"teacher": "no_such_model"},
    ],
)
def test_teachers_that_need_no_hub_ask_for_none(monkeypatch: pytest.MonkeyPatch, options: dict[str, str]) -> None:
    asked = unreachable(monkeypatch)
    with pytest.raises(DataError, match="holds no images"):
        passed(**options)
    assert asked == []


def test_a_hub_that_takes_connections_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        assert hub_answers()
        require_at_hand(parse_source(NAME), has_file=False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{port}/mirror")
    hub._takes_connections.cache_clear()
    assert not hub_answers()  # nobody listens any more


@pytest.mark.parametrize(
    ("proxies", "asked"),
    [
        ({"https": "http://proxy.example:3128"}, ("proxy.example", 3128)),
        ({"all": "socks5://proxy.example:1080"}, ("proxy.example", 1080)),
        ({"https": "proxy.example:80"}, ("proxy.example", 80)),
        ({"http": "http://other.example:3128"}, ("huggingface.co", 443)),
        ({"https": "socks5://proxy.example"}, None),
        ({"https": "http://proxy.example:many"}, None),
    ],
)
def test_behind_a_proxy_it_is_the_proxy_that_is_tried(
    monkeypatch: pytest.MonkeyPatch, proxies: dict[str, str], asked: tuple[str, int] | None
) -> None:
    monkeypatch.setattr("urllib.request.getproxies", lambda: proxies)
    monkeypatch.setattr("urllib.request.proxy_bypass", lambda _: False)
    tried: list[Any] = []
    monkeypatch.setattr(hub, "_takes_connections", lambda place: not tried.append(place))
    monkeypatch.setattr(hub._takes_connections, "cache_clear", lambda: None, raising=False)
    assert hub_answers()
    assert tried == [asked]


def test_a_look_up_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(0.5) or [])
    started = time.perf_counter()
    assert not hub_answers()
    assert time.perf_counter() - started < 0.4
