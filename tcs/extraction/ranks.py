"""What the ranks of one extraction tell each other: who takes part, over which inputs, and which shards they wrote."""

import dataclasses
import platform
from collections.abc import Callable

import cache
from cache import digest_of_json
from tcs.distributed.ranks import Ranks
from tcs.errors import DataError

SETTLED_BY_RANK_0 = ("batch_size", "constants")


def hosts_of(plan: cache.Plan, ranks: Ranks) -> list[str]:
    """The host of every rank. All ranks take part, each with the plan that it would extract.

    Raises DataError, on rank 0, naming the fields in which a rank's plan differs: nothing is written, or deleted, before all
    agree.
    """
    found = ranks.gather_json({"host": platform.node(), "plan": _digests(plan)})
    hosts = [one["host"] for one in found]
    for rank, one in enumerate(found if ranks.leads else []):
        fields = {**found[0]["plan"], **one["plan"]}
        differing = [name for name in fields if one["plan"].get(name) != found[0]["plan"].get(name)]
        if differing:
            raise DataError(
                f"rank {rank} on {hosts[rank]} would extract something else than rank 0 on {hosts[0]}: "
                f"{', '.join(differing)} differ; give all ranks the same images, teacher and release."
            )
    return hosts


def share_out(plan: cache.Plan, pending: list[int], ranks: Ranks) -> list[int]:
    """Tell the other ranks, from rank 0, the plan on disk and its pending shards; returns those that fall to rank 0."""
    ranks.broadcast_json({"plan_identity": plan.plan_identity, "shards": pending})
    return ranks.share(pending)


def nothing_to_share(ranks: Ranks) -> None:
    """Tell the other ranks, from rank 0, that the store is finished."""
    ranks.broadcast_json(None)


def share_of(ranks: Ranks) -> tuple[str, list[int]] | None:
    """The identity of the plan on disk, and the shards that fall to this rank, which is not rank 0; None if all is done."""
    told = ranks.broadcast_json(None)
    return told and (told["plan_identity"], ranks.share(told["shards"]))


def report(written: list[cache.WrittenShard], ranks: Ranks) -> None:
    """Tell rank 0 what this rank has written. Every rank does, once, unless the store was finished."""
    ranks.gather_json([dataclasses.asdict(shard) for shard in written])


def adopt_parts(writer: cache.StoreWriter, ranks: Ranks, meanwhile: Callable[[], None]) -> None:
    """Wait, on rank 0, for the reports of all other ranks, and take over their shards; CacheError for a shard that is not there."""
    for found in ranks.gather_json(None, meanwhile):
        for shard in found or ():
            writer.adopt(cache.WrittenShard(**shard))


def _digests(plan: cache.Plan) -> dict[str, str]:
    """A digest of each field of the plan and of its identity, but for those that rank 0 settles."""
    fields = {**plan.to_json(), "format_version": plan.format_version}
    fields |= {f"identity.{name}": value for name, value in fields.pop("identity").items()}
    return {name: digest_of_json(value) for name, value in fields.items() if name not in SETTLED_BY_RANK_0}
