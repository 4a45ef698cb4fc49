"""`tcs cache update`: a store follows its data set. What is new or changed is extracted, the rest is carried over bit for bit.

The new state is written like any store, shard by shard and resumable; the former one stands until it is whole.

Legend: P inputs of the new plan.
"""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

import cache
from tcs.artefact import differences, plain_json
from tcs.config.extract import ExtractConfig
from tcs.config.update import UpdateConfig
from tcs.errors import ArtefactError, ConfigError, DataError, number_of
from tcs.extraction.cost import Cost, estimate_cost
from tcs.extraction.counted import counted_in
from tcs.extraction.decoding import ImagePositions, cut, inputs_maker
from tcs.extraction.extract import batch_features, require_good, tell_left_out, tell_summary
from tcs.extraction.gate import add_gate
from tcs.extraction.plan import Extraction, prepare
from tcs.extraction.rows import shard_rows
from tcs.images.listing import ImageList
from tcs.images.recorded import require_path
from tcs.images.sources import open_images
from tcs.maintenance.changes import StoreChanges, find_changes
from tcs.maintenance.heritage import counts_of, provenance_of, recorded_options
from tcs.maintenance.labels_now import (
    LabelsNow,
    follow_labels,
    given_labels,
    labels_now,
    take_over_labels,
    tell_labels,
)
from tcs.maintenance.recompute import require_same_teacher
from tcs.runtime import Bar, place, progress_bar, say


def update(config: UpdateConfig) -> StoreChanges:
    """Make a store follow its data set; returns what has changed. With `dry_run` that is told, with its cost, and nothing is written.

    Row order, labels, classes and identity are those of a fresh extraction of the data set with the recorded options (but for rows
    that `keep_gone` keeps); labels that were given later stay, where the data set has not changed that image's class itself, and a
    label file is followed, be it that it gained, changed or lost labels, unless `keep_labels` says otherwise. A store that follows
    already is left alone. Raises TcsError or CacheError; an update that was cut short is taken up by the next call.
    """
    if place().world_size > 1:
        raise ConfigError("tcs cache update runs in one process; start it without torchrun.")
    if config.dry_run or config.out is not None:
        return _updated(config, cache.open(config.store), pathlib.Path(config.out or config.store), None)
    with cache.Replacement(config.store) as replacement:
        return _updated(config, cache.open(config.store), replacement.new, replacement)


def _updated(
    config: UpdateConfig, store: cache.Store, out: pathlib.Path, replacement: cache.Replacement | None
) -> StoreChanges:
    options = recorded_options(config, store)
    images = open_images(options)
    for note in images.notes:
        say(note)
    given = given_labels(config, store, images)
    changes = find_changes(store, images, keep_gone=config.keep_gone)
    images = dataclasses.replace(
        images, keys=changes.plan.keys, labels=changes.plan.labels, classes=changes.plan.classes
    )
    for line in changes.describe(options.data):
        say(line)
    labels = labels_now(store, changes, given, is_planned=config.dry_run)
    changes = labels.among(changes)
    tell_labels(labels)
    if config.dry_run and labels.are_others:
        say(*labels.sentence(config.store, is_planned=True))
    if changes.is_none:
        _leave(config, store, labels, replacement)
        return changes
    if replacement is not None and changes.leaves_most_out and not config.dry_run:
        raise DataError(
            f"{options.data} has {changes.counts['kept']:,} of the {changes.rows_before:,} images of {store.path}; if it is another data "
            "set, extract it, and if so many have gone, name a new store with --out."
        )
    work = _prepared(options, store, images, changes)
    if work is not None:
        say(f"to be extracted: {_cost(work, changes).describe()}")
    if config.dry_run:
        return changes
    _write(out, options, provenance_of(labels.followed, options, store, images, changes, work), store, changes, work)
    take_over_labels(out, store, labels, config)
    add_gate(out)
    done = cache.open(out)
    if replacement is not None:
        done = cache.open(replacement.commit())
        say(f"{done.path} is updated; what it was before is {replacement.former}, which may be deleted.")
    tell_summary(done)
    return changes


def _leave(
    config: UpdateConfig,
    store: cache.Store,
    labels: LabelsNow,
    replacement: cache.Replacement | None,
) -> None:
    """Say that there is nothing to do, but for labels that a file has gained, changed or lost."""
    rest = "but for their labels" if labels.are_others else "nothing to do"
    say(f"{store.path} is what would be made of these images now; {rest}.")
    if replacement is not None:
        replacement.release()
        if follow_labels(store, labels):
            add_gate(store.path)
    elif config.out is not None:
        say(f"{config.out} is not written.")


def _prepared(
    options: ExtractConfig, store: cache.Store, images: ImageList, changes: StoreChanges
) -> Extraction | None:
    """What extracts the images that no row has the features of; None where there are none, and no teacher is needed.

    ArtefactError, naming the field, where features would not be made as those of the store were.
    """
    if (changes.row_P >= 0).all():
        return None
    plan = changes.plan
    require_path(options.teacher_checkpoint, "--teacher-checkpoint", store.path)
    asked = dataclasses.replace(options, images=plan.images, label_file=None, batch_size=plan.batch_size)
    work = prepare(asked, images, store.manifest.plan)
    require_same_teacher(store, work.teacher)
    found, wanted = ({**item.to_json(), "keys": [], "labels": []} for item in (plan, work.plan))
    odd = differences(plain_json(found), plain_json(wanted))
    if odd:
        raise ArtefactError(
            f"{store.path} would be extracted otherwise now: {odd[0]}; use the release that made it, or extract all images anew."
        )
    return work


def _cost(work: Extraction, changes: StoreChanges) -> Cost:
    """What the images that are to be extracted take."""
    wanted = np.flatnonzero(changes.row_P < 0).tolist()
    keys = tuple(work.plan.keys[at] for at in wanted)
    labels = tuple(work.plan.labels[at] for at in wanted)
    images = dataclasses.replace(work.images, keys=keys, labels=labels)
    teacher, config = work.teacher, work.config
    make_inputs = inputs_maker(config, teacher.transform, teacher.preprocessing)
    positions = ImagePositions(images, make_inputs, work.plan.images, config.rules)
    plan = dataclasses.replace(work.plan, keys=keys, labels=labels)
    return estimate_cost(images, positions, teacher, plan, config.workers)


def _write(
    out: pathlib.Path,
    options: ExtractConfig,
    provenance: Mapping[str, Any],
    store: cache.Store,
    changes: StoreChanges,
    work: Extraction | None,
) -> None:
    """Write the store, or what is left of it."""
    is_stale = _is_stale(out, changes)
    start = time.perf_counter()
    with cache.StoreWriter(out, changes.plan, provenance=provenance, overwrite=is_stale) as writer:
        if len(writer.quarantine) > options.max_bad:
            writer.retry_quarantined()
        pending = writer.pending()
        total = sum(len(writer.plan.positions(index)) for index in pending)
        with progress_bar(total, "update", "images") as bar, cache.WriteBehind(writer.write_shard) as write:
            for index, rows in _shards(store, changes, work, writer.plan, pending, bar):
                write(index, rows)
        require_good(options, writer.plan, writer.quarantine)
        seconds = time.perf_counter() - start
        run = {"images": total, "seconds": round(seconds, 3)}
        counted = counted_in(writer.notes().values())
        manifest = writer.close(provenance={"run": run, **counts_of(store, changes, counted)})
    say(f"{manifest.rows:,} rows, {number_of(len(manifest.quarantine), 'bad image')}.")
    tell_left_out(manifest.quarantine)
    for sentence in counted.pixels.sentences(options.rules):
        say(sentence)


def _is_stale(out: pathlib.Path, changes: StoreChanges) -> bool:
    """Whether what a killed update left at `out` is of another state of the images. ArtefactError for what no update of ours began."""
    if not (out / "manifest.json").exists():
        return False
    found = cache.read_manifest(out).provenance.get(cache.PARENT)
    inputs = found.get("inputs") if isinstance(found, Mapping) else None
    if inputs is None:
        raise ArtefactError(f"{out} is there, and no update began it; name another --out.")
    if inputs != changes.inputs:
        say(f"{out} was begun when the images were others; it is begun anew.")
    return bool(inputs != changes.inputs)


def _shards(
    store: cache.Store,
    changes: StoreChanges,
    work: Extraction | None,
    plan: cache.Plan,
    pending: list[int],
    bar: Bar,
) -> Iterator[tuple[int, cache.ShardRows]]:
    """The pending shards in order; the images of a shard that the teacher has to see go through it in batches of their own."""
    source = cache.DerivedFrom(store)
    wanted = {index: [at for at in plan.positions(index) if changes.row_P[at] < 0] for index in pending}
    batches = {index: cut(positions, plan.batch_size) for index, positions in wanted.items()}
    every = [batch for index in pending for batch in batches[index]]
    with contextlib.ExitStack() as stack:
        stream: Iterator[Any] = iter(())
        if work is not None:
            stream = stack.enter_context(contextlib.closing(batch_features(work, plan, every, bar)))
        for index in pending:
            parts = [next(stream) for _ in batches[index]]
            at_n = np.array([at for at in plan.positions(index) if changes.row_P[at] >= 0], np.int64)
            carried = cache.carried_rows(source, plan, at_n, changes.row_P[at_n])
            fresh = [shard_rows(plan, parts)] if parts else []
            rows = cache.joined_rows([carried, *fresh])
            yield index, dataclasses.replace(rows, note=fresh[0].note) if fresh else rows
            bar.advance(len(at_n))
