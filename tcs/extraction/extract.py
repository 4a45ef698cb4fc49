"""`tcs extract`: one pass of a teacher over images into a feature store, resumable, complete or refused.

Legend: B batch, D teacher dims, V views, P parameters of a view, R rows of a shard (its inputs without the bad ones).
"""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Generator, Iterator, Sequence
from datetime import timedelta
from typing import Any

import numpy as np

import cache
from tcs.config.extract import ExtractConfig, as_json
from tcs.distributed.ranks import ONE_RANK, Ranks, joined_ranks, shared_bar
from tcs.errors import DataError, listed, number_of
from tcs.extraction.counted import Counted, counted_of
from tcs.extraction.decoding import Collate, DecodedBatch, cut
from tcs.extraction.gate import add_gate
from tcs.extraction.plan import Extraction, prepare
from tcs.extraction.projections import projected, projections_of
from tcs.extraction.ranks import adopt_parts, hosts_of, nothing_to_share, report, share_of, share_out
from tcs.extraction.rows import batch_rows, shard_rows
from tcs.extraction.workers import decoded_batches, naming_lost_workers
from tcs.runtime import Bar, environment, progress_bar, say
from tcs.splits.counts import describe_labels
from tcs.splits.followed import followed_in
from tcs.splits.given_labels import give_labels
from tcs.store_summary import image_lines, summary_of

# A batch of 1 takes other arithmetic than the same image in a larger one; 8 and more agree bit for bit on a CPU.
MIN_BATCH = 8
LISTED = 10  # bad images by name

# A rank that is through waits for the slowest one, which has all of its share to write.
WAIT_TIMEOUT = timedelta(days=1)


def extract(config: ExtractConfig) -> pathlib.Path:
    """Run the pass that `config` describes, or what is left of it; returns the store's path.

    A finished store is left as it is, but for labels that `label_file` adds or corrects.
    Raises TcsError or CacheError, one line each; the shards written stay, and the
    same call resumes. With more than `max_bad` bad images all of them are found first, and the store stays open.
    """
    with joined_ranks(longest_wait=WAIT_TIMEOUT) as ranks:
        # The plan's constants are made by rank 0 alone: a PCA is not the same to the last bit on every device.
        extraction = prepare(config if ranks.leads else dataclasses.replace(config, dry_run=True))
        if config.dry_run:
            if ranks.leads:
                for note in extraction.images.notes:
                    say(note)
                say(extraction.cost().among(ranks.world_size).describe())
                say(describe_labels(*extraction.labels))
                extraction.teacher.announce()
        elif ranks.leads:
            _lead(extraction, ranks)
        else:
            _follow(extraction, ranks)
    return pathlib.Path(config.out)


def extract_prepared(extraction: Extraction) -> pathlib.Path:
    """The pass of `extract` in this process alone, from what `prepare` made of its configuration; returns the store's path."""
    _lead(extraction, ONE_RANK)
    return pathlib.Path(extraction.config.out)


def _lead(extraction: Extraction, ranks: Ranks) -> None:
    """Open the store, write this rank's share of it, take over the others', close it, and run the gate."""
    config, out = extraction.config, pathlib.Path(extraction.config.out)
    provenance = {
        "config": as_json(config),
        "data": dict(extraction.images.origin),
        "teacher": dict(extraction.teacher.provenance),
        "environment": environment(),
        "ranks": {"world_size": ranks.world_size, "hosts": hosts_of(extraction.plan, ranks)},
    }
    with cache.StoreWriter(out, extraction.plan, provenance=provenance, overwrite=config.overwrite) as writer:
        was_finished = writer.finished
        if was_finished:
            say(f"{out} is finished already; nothing to do (--overwrite extracts it anew).")
            nothing_to_share(ranks)
        else:
            _run(extraction, writer, ranks)
    is_new = not was_finished
    if config.label_file is not None:
        recorded = cache.read_manifest(out).provenance
        entries = followed_in(recorded).by(config.label_file).entries(recorded)
        found = give_labels(out, config.label_file, extraction.given, entries)
        is_new |= bool(found.added or found.changed)
    if is_new:
        tell_summary(cache.open(out))
    add_gate(out)


def _follow(extraction: Extraction, ranks: Ranks) -> None:
    """Write this rank's share of the shards that rank 0 found pending, and report them."""
    hosts_of(extraction.plan, ranks)
    told = share_of(ranks)
    if told is None:
        return
    plan_identity, share = told
    if not share:
        report([], ranks)
        return
    part = cache.PartWriter(extraction.config.out, plan_identity, share=share)
    teacher = projected(extraction.teacher, projections_of(part.plan))
    extraction = dataclasses.replace(extraction, plan=part.plan, teacher=teacher)
    with progress_bar(0, "extract", "images") as bar, cache.WriteBehind(part.write_shard) as write:
        for index, rows in _shards(extraction, part.plan, share, shared_bar(ranks, bar)):
            write(index, rows)
    report(write.results, ranks)


def _run(extraction: Extraction, writer: cache.StoreWriter, ranks: Ranks) -> None:
    """Have the pending shards written, then close the store, unless too many images are bad."""
    config = extraction.config
    if len(writer.quarantine) > config.max_bad:
        writer.retry_quarantined()  # perhaps the images have been fixed meanwhile
    _announce(extraction, writer, ranks)
    start = time.perf_counter()
    share = share_out(writer.plan, writer.pending(), ranks)
    images = write_pending(extraction, writer, share, ranks)
    seconds = time.perf_counter() - start
    counted = counted_of(writer)
    _tell_pixels(config, writer, counted)  # now: a run that finds too many bad images has looked at the others, too
    require_good(config, writer.plan, writer.quarantine)
    run: dict[str, Any] = {
        "images": images,
        "seconds": round(seconds, 3),
        "images_per_second": round(images / seconds, 1),
    }
    run |= {"teacher_seconds_per_image": extraction.forward.seconds_per_image, "device": config.device}
    manifest = writer.close(provenance={"run": run, **counted.to_json()})
    bad = number_of(len(manifest.quarantine), "bad image")
    say(f"{config.out}: {manifest.rows:,} rows, {bad}, {run['images_per_second']} images/s.")
    tell_left_out(manifest.quarantine)


def tell_summary(store: cache.Store) -> None:
    """The labels and the images of a finished store."""
    say(f"{store.path}: {describe_labels(store.labels_N, store.classes)}")
    for name, text in image_lines({"rows": len(store), **summary_of(store)}).items():
        say(f"{name}: {text}.")


def tell_left_out(bad: Sequence[cache.Quarantined]) -> None:
    """The images that are not in a finished store, by name; all of them stand in its manifest."""
    if bad:
        say(f"left out: {listed((f'{entry.key} ({entry.reason})' for entry in bad), LISTED)}.")


def _tell_pixels(config: ExtractConfig, writer: cache.StoreWriter, counted: Counted) -> None:
    """What was done to make pixels of the images; of a store that an earlier release began, of those of this run."""
    sentences = counted.pixels.sentences(config.rules)
    rows = len(writer.plan.keys) - len(writer.quarantine)
    if sentences and counted.pixels.images < rows:
        say(f"of {counted.pixels.images:,} of the {rows:,} images; the others were not counted:")
    for sentence in sentences:
        say(sentence)


def write_pending(
    extraction: Extraction, writer: cache.StoreWriter, share: Sequence[int] | None = None, ranks: Ranks = ONE_RANK
) -> int:
    """Run the teacher over the pending shards of `share` (None: all), write each, and take over the other ranks'.

    Returns how many images the pending shards held.
    """
    plan, pending = writer.plan, writer.pending()
    images = sum(len(plan.positions(index)) for index in pending)
    with progress_bar(images, "extract", "images") as own_bar:
        bar = shared_bar(ranks, own_bar)
        with cache.WriteBehind(writer.write_shard) as write:
            for index, rows in _shards(extraction, plan, pending if share is None else share, bar):
                write(index, rows)
        adopt_parts(writer, ranks, meanwhile=lambda: bar.advance(0))
    return images


def _announce(extraction: Extraction, writer: cache.StoreWriter, ranks: Ranks) -> None:
    config, images, plan = extraction.config, extraction.images, writer.plan
    labels, classes = extraction.labels
    labelled = sum(label >= 0 for label in labels)
    say(f"{images.root}: {len(images.keys):,} images, {labelled:,} labelled, {len(classes)} classes.")
    for note in images.notes:
        say(note)
    extraction.teacher.announce()
    say(extraction.cost().among(ranks.world_size).describe())
    if ranks.world_size > 1:
        say(f"{ranks.world_size} ranks take turns with the {len(writer.pending())} shards to be written.")
    if writer.damaged:
        say(f"damaged and written again: {', '.join(writer.damaged)}.")
    done = plan.shard_count - len(writer.pending())
    if done:
        say(f"resuming: {done} of {plan.shard_count} shards are there already.")
    if plan.batch_size != config.batch_size:
        say(f"the store was begun with batches of {plan.batch_size}; --batch-size {config.batch_size} is not used.")


def _shards(
    extraction: Extraction, plan: cache.Plan, pending: Sequence[int], bar: Bar
) -> Iterator[tuple[int, cache.ShardRows]]:
    """The pending shards in order, each with its rows; one stream of workers serves all of them."""
    batches = [cut(plan.positions(index), plan.batch_size) for index in pending]
    stream = batch_features(extraction, plan, [batch for shard in batches for batch in shard], bar)
    with contextlib.closing(stream):
        for index, shard in zip(pending, batches, strict=True):
            yield index, shard_rows(plan, [next(stream) for _ in shard])


def batch_features(
    extraction: Extraction, plan: cache.Plan, batches: Sequence[Sequence[int]], bar: Bar
) -> Generator[tuple[DecodedBatch, dict[str, np.ndarray]], None, None]:
    """Each batch of positions, and float32 (n, ...) of each readout for the n good images in it."""
    views = 1 if plan.views is None else plan.views.count
    collate = Collate(max(plan.batch_size, MIN_BATCH), extraction.teacher.input_shape, views)
    stream = decoded_batches(extraction.positions, batches, collate, extraction.config.workers)
    with contextlib.closing(stream):
        for batch in stream:
            with naming_lost_workers(), extraction.forward.images(len(batch.items)):
                rows = batch_rows(extraction.teacher, batch, plan)
            yield batch, rows
            bar.advance(len(batch.items))


def require_good(config: ExtractConfig, plan: cache.Plan, bad: Sequence[cache.Quarantined]) -> None:
    """Raise DataError listing the bad images where there are more than allowed, or nothing but bad ones."""
    told = [f"{entry.key} ({entry.reason})" for entry in bad]
    if len(bad) == len(plan.keys):
        raise DataError(f"none of the {len(bad)} images can be read (first: {told[0]}); nothing to store.")
    if len(bad) > config.max_bad:
        more = f", and {len(bad) - LISTED} more" if len(bad) > LISTED else ""
        raise DataError(
            f"{len(bad)} of {len(plan.keys)} images are bad, --max-bad is {config.max_bad}: {listed(told[:LISTED])}{more};"
            f" run again when they are fixed, or leave them out: --max-bad {len(bad)}."
        )
