"""Whether published weights can be had at all: from the Hub's local cache, or from a Hub that answers.

Where the Hub does not answer, its client is told to look into its cache alone.
"""

import contextlib
from collections.abc import Iterator

import huggingface_hub.constants
import timm

from tcs.errors import ModelError
from tcs.hub import Repository, hub_answers, repository_of
from tcs.teacher.hub import NOT_AT_HAND, refusal
from tcs.teacher.source import TeacherSource


def require_at_hand(source: TeacherSource, has_file: bool) -> None:
    """Raise ModelError where the teacher's weights are the Hub's, not in its local cache, and the Hub does not answer.

    HF_HUB_OFFLINE is as good as a Hub that does not answer. With a file of weights (`has_file`) timm's names need no Hub, and
    hf-hub:owner/name its config.json alone. A name that timm does not know is let pass.
    """
    repository = _repository(source, has_file)
    if repository is not None and not repository.is_cached and not hub_answers():
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


def _repository(source: TeacherSource, has_file: bool) -> Repository | None:
    """The Hub's repository that `source` is read from; None where it is read from none."""
    if source.kind == "hf-hub":
        name, _, revision = source.rest.partition("@")
        return Repository(name=name, revision=revision or None, files=("config.json",))
    return repository_of(timm.get_pretrained_cfg(source.spec)) if source.kind == "timm" and not has_file else None
