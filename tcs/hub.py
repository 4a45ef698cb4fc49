"""The Hugging Face Hub: whether it answers, and whether its local cache has what is asked for.

Without a network the Hub's client tries each file six times, which takes a minute. So it is asked once whether it can be reached,
before images are listed.
"""

import contextlib
import dataclasses
import functools
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import huggingface_hub
import huggingface_hub.constants

ANSWER_SECONDS = 5.0
PORTS = {"https": 443, "http": 80}
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Repository:
    """A repository of the Hub, and its files of which one is needed."""

    name: str
    revision: str | None
    files: tuple[str, ...]

    @property
    def is_cached(self) -> bool:
        """Whether the local cache has one of the files; True for what is no repository's name, which the client says better."""
        try:
            found = [
                huggingface_hub.try_to_load_from_cache(self.name, file, revision=self.revision) for file in self.files
            ]
        except ValueError:
            return True
        return any(isinstance(path, str) for path in found)


def repository_of(entry: Any) -> Repository | None:
    """Where timm has the weights of one of its models (its pretrained_cfg, or None); None where they are not on the Hub."""
    if entry is None or not entry.hf_hub_id:
        return None
    name, _, revision = entry.hf_hub_id.partition("@")
    files = (entry.hf_hub_filename,) if entry.hf_hub_filename else WEIGHT_FILES
    return Repository(name=name, revision=revision or None, files=files)


@contextlib.contextmanager
def cached_alone() -> Iterator[None]:
    """The Hub's client reads its local cache for the duration, and asks nobody."""
    before = huggingface_hub.constants.HF_HUB_OFFLINE
    huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = before


def hub_answers() -> bool:
    """Whether the Hub (HF_ENDPOINT) may be asked and takes a connection, itself or the proxy before it; tried once."""
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return False
    return _takes_connections(_way_to(huggingface_hub.constants.ENDPOINT))


def _way_to(url: str) -> tuple[str, int] | None:
    """Host and port that a request for `url` goes to first: the proxy's where one is set. None where they cannot be told."""
    target = urllib.parse.urlsplit(url)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(target.scheme) or proxies.get("all")
    if proxy and not urllib.request.proxy_bypass(target.hostname or ""):
        target = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
    try:
        port = target.port or PORTS.get(target.scheme or "http")
    except ValueError:
        return None
    return (target.hostname, port) if target.hostname and port else None


@functools.cache
def _takes_connections(place: tuple[str, int] | None) -> bool:
    """Whether a connection to host and port opens in time, the look-up of the name included. True where they are not known."""
    if place is None:
        return True
    opened = threading.Event()

    def connect() -> None:
        with contextlib.suppress(OSError), socket.create_connection(place, timeout=ANSWER_SECONDS):
            opened.set()

    attempt = threading.Thread(target=connect, name="tcs-hub", daemon=True)  # a look-up has no time limit of its own
    attempt.start()
    attempt.join(ANSWER_SECONDS)
    return opened.is_set()
