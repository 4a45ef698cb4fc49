"""What the ranks of one extraction tell each other: who takes part, over which inputs, and which shards they wrote."""

import dataclasses
import platform
from collections.abc import Callable

import cache
from cache import digest_of_json
from tcs.distributed.ranks import Ranks
from tcs.errors import DataError

SETTLED_BY_RANK_0 = ("batch_size", "constants")


def introduce(plan: cache.Plan, ranks: Ranks) -> None:
    """Tell rank 0 where this rank runs and what it would extract."""
    ranks.post("ready", {"host": platform.node(), "plan": _digests(plan)})


def hosts_of(plan: cache.Plan, ranks: Ranks) -> list[str]:
    """The host of every rank, on rank 0, once all have introduced themselves.

    Raises DataError naming the fields in which a rank's plan differs: nothing is written, or deleted, before all agree.
    """
    hosts, wanted = [platform.node()], _digests(plan)
    for rank in ranks.others:
        ready = ranks.receive("ready", rank)
        found = ready["plan"]
        differing = [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]
        if differing:
            raise DataError(
                f"rank {rank} on {ready['host']} would extract something else than rank 0 on {hosts[0]}: "
                f"{', '.join(differing)} differ; give all ranks the same images, teacher and release."
            )
        hosts.append(ready["host"])
    return hosts


def share_out(plan: cache.Plan, pending: list[int], ranks: Ranks) -> list[int]:
    """Tell the other ranks, from rank 0, the plan on disk and its pending shards; returns those that fall to rank 0."""
    if ranks.others:  # a process that is alone has nobody to tell
        ranks.post("pending", {"plan_identity": plan.plan_identity, "shards": pending})
    return ranks.share(pending)


def share_of(ranks: Ranks) -> tuple[str, list[int]]:
    """The identity of the plan on disk, and the shards that fall to this rank, which is not rank 0."""
    pending = ranks.receive("pending")
    return pending["plan_identity"], ranks.share(pending["shards"])


def report(written: list[cache.WrittenShard], ranks: Ranks) -> None:
    """Tell rank 0 what this rank has written."""
    ranks.post("written", [dataclasses.asdict(shard) for shard in written])


def adopt_parts(writer: cache.StoreWriter, ranks: Ranks, meanwhile: Callable[[], None]) -> None:
    """Wait, on rank 0, for the reports of all other ranks, and take over their shards; CacheError for one not there."""
    for rank in ranks.others:
        for shard in ranks.receive("written", rank, meanwhile):
            writer.adopt(cache.WrittenShard(**shard))


def _digests(plan: cache.Plan) -> dict[str, str]:
    """A digest of each field of the plan and of its identity, but for those that rank 0 settles."""
    fields = {**plan.to_json(), "format_version": plan.format_version}
    fields |= {f"identity.{name}": value for name, value in fields.pop("identity").items()}
    return {name: digest_of_json(value) for name, value in fields.items() if name not in SETTLED_BY_RANK_0}
