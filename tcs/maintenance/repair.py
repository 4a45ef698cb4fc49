"""`tcs cache repair`: the bad shards of a store extracted again, and nothing else touched."""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import cache
from cache.errors import SchemaError
from tcs.config.extract import ExtractConfig, RepairConfig
from tcs.errors import ArtefactError, DataError
from tcs.extraction.extract import extract
from tcs.extraction.gate import add_gate
from tcs.extraction.plan import Extraction, prepare
from tcs.images.recorded import recorded_config, require_path
from tcs.maintenance.verify import verified
from tcs.ordinary import read_ordinary
from tcs.runtime import Bar, progress_bar, say
from tcs.teacher.source import teacher_to_run


def repair(config: RepairConfig) -> cache.Verification:
    """Verify the store, extract its bad and missing shards again, and verify it once more; returns that result.

    Before anything is discarded, the recorded teacher must be the one the store was made with, and the images those
    whose hashes give the store's identity. A sound store is left as it is. Raises TcsError or CacheError; a repair that
    was cut short is taken up by the next call.
    """
    store = pathlib.Path(config.store)
    found = verified(store)
    if found.is_sound:
        say(f"{store} is sound; nothing to repair.")
        _complete_gate(store, found)
        return found
    for problem in found.problems:
        say(f"{store.parent / problem.file if found.is_packed else store / problem.file}: {problem.what}")
    if not (found.bad_shards or found.bad_manifest or found.state == "open"):
        return found  # only files that belong to no part of the store, which are not ours to delete
    value = manifest_value(store)
    options = _extract_config(config, value, is_closed=found.state == "closed")
    is_lost = found.state == "unreadable"  # then nothing of the plan on disk is believed
    extraction = prepare(dataclasses.replace(options, overwrite=is_lost))
    _discard(store, found, extraction, value)
    del extraction  # `extract` loads the teacher again: two at once might not fit the device
    extract(options)
    if found.state == "closed":
        _tell(store, _digests(value), found.bad_shards)
    return verified(store)


def _complete_gate(store: pathlib.Path, found: cache.Verification) -> None:
    """Run the gate that a kill between the last shard and the end of a repair has left out."""
    manifest = None if found.is_packed else cache.read_manifest(store)
    if manifest is not None and manifest.gate is None and "config" in manifest.provenance:
        add_gate(store)


def manifest_value(store: pathlib.Path) -> dict[str, Any]:
    """The JSON of a manifest that may be damaged below that; ArtefactError where it is no JSON object."""
    path = store / "manifest.json"
    try:
        value = json.loads(read_ordinary(path))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError(
            f"{path} cannot be read ({error}), so the options of the extraction are lost; delete it if it is there, and "
            "rerun the tcs extract command that made the store: it takes over the shards that are whole."
        ) from error
    if not isinstance(value, dict):
        raise ArtefactError(
            f"{path} is no JSON object; delete it and rerun the tcs extract command that made the store."
        )
    return value


def _extract_config(config: RepairConfig, value: dict[str, Any], *, is_closed: bool) -> ExtractConfig:
    store = pathlib.Path(config.store)
    changes = {
        "data": config.data,
        "teacher_checkpoint": config.teacher_checkpoint,
        "device": config.device,
        "workers": config.workers,
    }
    options = recorded_config(store, value.get("provenance"), changes)
    require_path(options.data, "--data", store)
    require_path(options.teacher_checkpoint, "--teacher-checkpoint", store)
    is_there = options.label_file is not None and pathlib.Path(options.label_file).exists()
    if is_closed or not is_there:  # its labels stand in the manifest, and it may say others by now
        options = dataclasses.replace(options, label_file=None)
    return dataclasses.replace(options, teacher=teacher_to_run(options.teacher, config.teacher))


def _discard(store: pathlib.Path, found: cache.Verification, extraction: Extraction, value: dict[str, Any]) -> None:
    """Take away what is bad, once it is sure that the same can be made again."""
    if found.state == "unreadable" or (found.bad_manifest and not found.bad_shards):
        later = _later_labels(store, extraction.plan, value.get("labels"))
        cache.reopen_store(store, extraction.plan, provenance=value.get("provenance", {}), later_labels=later)
        return
    if found.state == "closed":
        rows = sum(entry["rows"] for entry in value["shards"] if entry["file"] in found.bad_shards)
        with progress_bar(rows, "hash images", "images") as bar:
            cache.require_same_rows(store, found.bad_shards, lambda key: _hash_of(extraction, key, bar))
    cache.discard_shards(store, found.bad_shards, extraction.plan)


def _later_labels(store: pathlib.Path, plan: cache.Plan, recorded: Any) -> cache.LaterLabels | None:
    """Labels given after the plan, as far as a damaged manifest still tells them."""
    if recorded is None:
        return None
    with contextlib.suppress(SchemaError):
        found = cache.LaterLabels.from_json(recorded)
        if len(found.labels) == len(plan.keys):
            return found
    say(f"{store}: the labels given after its extraction are damaged; give them again with tcs cache label.")
    return None


def _hash_of(extraction: Extraction, key: str, bar: Bar) -> bytes:
    try:
        data = extraction.images.read(key)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(
            f"the image {key} cannot be read ({reason}); restore it, or say with --data where it is."
        ) from error
    bar.advance(1)
    return cache.content_hash(data)


def _digests(value: dict[str, Any]) -> dict[str, str]:
    """The shards' digests by file, as a manifest that has just been verified lists them; none while it is open."""
    return {entry["file"]: entry["digest"] for entry in value["shards"]}


def _tell(store: pathlib.Path, before: dict[str, str], bad: Sequence[str]) -> None:
    """Say whether the shards that were written again are what they were."""
    after = _digests(manifest_value(store))
    other = [name for name in bad if name in before and after.get(name) != before[name]]
    if other:
        say(
            f"{len(other)} of {len(bad)} shards written again have other bytes than before: other hardware or versions."
        )
    elif before and bad:
        say(f"{store}: {len(bad)} shards written again, equal to the former ones byte for byte.")
