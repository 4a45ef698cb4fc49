"""Whether published weights can be had at all: from the Hub's local cache, or from a Hub that answers.

Without a network the Hub's client tries each file six times, which takes a minute. So the question is asked once, before images
are listed, and where the Hub does not answer the client is told to look into its cache alone.
"""

import contextlib
import functools
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator

import huggingface_hub.constants
import timm

from tcs.errors import ModelError
from tcs.teacher.hub import NOT_AT_HAND, WEIGHT_FILES, refusal
from tcs.teacher.source import TeacherSource

ANSWER_SECONDS = 5.0
PORTS = {"https": 443, "http": 80}


def require_at_hand(source: TeacherSource, has_file: bool) -> None:
    """Raise ModelError where the teacher's weights are the Hub's, not in its local cache, and the Hub does not answer.

    HF_HUB_OFFLINE is as good as a Hub that does not answer. With a file of weights (`has_file`) timm's names need no Hub, and
    hf-hub:owner/name its config.json alone. A name that timm does not know is let pass.
    """
    repository = _repository(source, has_file)
    if repository and not _is_cached(*repository) and not hub_answers():
        what, remedy = NOT_AT_HAND
        folder = huggingface_hub.constants.HF_HUB_CACHE
        raise ModelError(refusal(source.spec, what, f"{remedy} FILE; the cache is {folder} (HF_HUB_CACHE)"))


@contextlib.contextmanager
def from_cache_alone(source: TeacherSource, has_file: bool) -> Iterator[None]:
    """Keep the client of a Hub that does not answer from trying, where `source` needs one: it reads its cache or fails at once."""
    if _repository(source, has_file) is None or hub_answers():
        yield
        return
    before = huggingface_hub.constants.HF_HUB_OFFLINE  # the client asks it before every request
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


def _repository(source: TeacherSource, has_file: bool) -> tuple[str, str | None, tuple[str, ...]] | None:
    """Name, revision and files of the Hub's repository that `source` is read from; None where it is read from none."""
    if source.kind == "hf-hub":
        name, _, revision = source.rest.partition("@")
        return name, revision or None, ("config.json",)
    entry = timm.get_pretrained_cfg(source.spec) if source.kind == "timm" and not has_file else None
    if entry is None or not entry.hf_hub_id:
        return None
    name, _, revision = entry.hf_hub_id.partition("@")
    return name, revision or None, (entry.hf_hub_filename,) if entry.hf_hub_filename else WEIGHT_FILES


def _is_cached(name: str, revision: str | None, files: tuple[str, ...]) -> bool:
    try:
        found = [huggingface_hub.try_to_load_from_cache(name, file, revision=revision) for file in files]
    except ValueError:  # that is no repository's name: the client says so, too
        return True
    return any(isinstance(path, str) for path in found)


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
