"""Who won, by how much and how sure: the sentence that stands above a report, for readers who know no statistics."""

import dataclasses
from collections.abc import Mapping, Sequence

from tcs.reporting.contrast import CLAIM_SEEDS, FEW_SEEDS, Contrast, against_all, contrast
from tcs.reporting.intervals import CONFIDENCE
from tcs.reporting.ranks import Ranking, common_scores, rank_methods
from tcs.reporting.results import Table
from tcs.reporting.seal import BEFOREHAND, EXPLORATORY, Trust

SURE, LIKELY, OPEN, UNKNOWN = "sure", "likely", "open", "unknown"
SURENESS = {
    SURE: f"Sure: the 95 % interval excludes zero, on {CLAIM_SEEDS} seeds or more.",
    LIKELY: "Likely: the 95 % interval excludes zero.",
    OPEN: "Open: the difference may be chance.",
    UNKNOWN: "Not known: too few seeds for an interval that means something.",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """`headline` is the one sentence, `detail` how it was found, `caution` what keeps it from being more; `certainty` is SURE, LIKELY,
    OPEN (it may be chance) or UNKNOWN (too few seeds for an interval that means something), and `sureness` says so in words."""

    headline: str
    detail: str
    caution: str
    certainty: str
    sureness: str
    result: Contrast | None


def judge(tables: Sequence[Table], primary: tuple[str, str] | None, trust: Trust | None) -> Verdict:
    """The verdict on the primary comparison, or, where none is named, on the two methods that rank first."""
    pair = primary or leaders(tables)
    result = None if pair is None else contrast(tables, *pair)
    if pair is None or result is None:
        return Verdict(
            headline="There is nothing to compare yet.",
            detail="No two methods have a result on the same seed and split."
            if pair
            else "A comparison needs two methods with results.",
            caution="",
            certainty=UNKNOWN,
            sureness=SURENESS[UNKNOWN],
            result=None,
        )
    if result.whole.mean < 0:  # told from the side of the winner
        result = contrast(tables, result.second, result.first) or result
    picked = 1 if primary is not None else _pairs(tables)
    certainty = _certainty(result, picked, is_fixed=trust is None or trust.kind != EXPLORATORY)
    picked_told = f" It was picked from {picked} pairs after looking, and corrected for that." if picked > 1 else ""
    return Verdict(
        headline=_headline(result, certainty),
        detail=_detail(result) + _beyond(tables, result),
        caution=_caution(result, primary, trust),
        certainty=certainty,
        sureness=SURENESS[certainty] + (picked_told if certainty in (OPEN, LIKELY) else ""),
        result=result,
    )


def _pairs(tables: Sequence[Table]) -> int:
    """From how many pairs of methods the two that rank first were picked."""
    ranked = ranking(tables)
    return 1 if ranked is None else len(ranked.methods) * (len(ranked.methods) - 1) // 2


def _certainty(result: Contrast, picked: int, *, is_fixed: bool) -> str:
    """How sure the whole difference is: of two methods that were picked from `picked` pairs after looking by a p-value corrected for
    all of them (Bonferroni), and never more than LIKELY unless the comparison was fixed beforehand (or nothing tells when)."""
    whole = result.whole
    if whole.n < FEW_SEEDS:
        return UNKNOWN
    if not result.is_clear or picked * (whole.p or 0.0) >= 1 - CONFIDENCE:
        return OPEN
    return SURE if whole.n >= CLAIM_SEEDS and is_fixed and picked == 1 else LIKELY


def _headline(result: Contrast, certainty: str) -> str:
    first, second, points = result.first, result.second, _points(result.whole.mean)
    return {
        SURE: f"{first} beats {second} by {points}.",
        LIKELY: f"{first} is ahead of {second} by {points}, and chance alone hardly explains it.",
        OPEN: f"No winner: {first} is ahead of {second} by {points}, which may be chance.",
        UNKNOWN: f"{first} is ahead of {second} by {points}, but {_seeds(result.whole.n)} cannot say how sure that is.",
    }[certainty]


def _points(value: float) -> str:
    return f"{abs(value):.1f} point{'s' * (f'{abs(value):.1f}' != '1.0')}"


def _seeds(count: int) -> str:
    return f"{count} draw{'s' * (count != 1)} of the labelled images"


def _detail(result: Contrast) -> str:
    whole, settings = result.whole, len(result.conditions)
    spread = (
        ""
        if whole.half is None
        else f" (95 % interval {whole.mean - whole.half:+.1f} to {whole.mean + whole.half:+.1f})"
    )
    where = f"in all {settings}" if result.ahead == settings else f"in {result.ahead} of {settings}"
    shared = f"{result.used} settings that share" if result.used != 1 else "1 setting that shares"
    part = "" if result.used == settings else f" The mean is over the {shared} seeds."
    settings_told = f"It is ahead {where} settings of data set, student and shots." if settings > 1 else ""
    return (
        f"Of 100 test images, {result.first} names {result.first_mean:.1f} correctly and {result.second} {result.second_mean:.1f}: "
        f"{whole.mean:.1f} more{spread}, averaged over {_seeds(whole.n)}. {settings_told}{part}".strip()
    )


def _beyond(tables: Sequence[Table], result: Contrast) -> str:
    """Which other method ranks first, so that a comparison of two is not read as one of all."""
    ranked = ranking(tables)
    if ranked is None or len(ranked.methods) < 3 or ranked.methods[0] == result.first:
        return ""
    return f" Of all {len(ranked.methods)} methods {ranked.methods[0]} ranks first."


def _caution(result: Contrast, primary: tuple[str, str] | None, trust: Trust | None) -> str:
    told = []
    if primary is None:
        told.append(
            "No comparison was named beforehand: these are the two methods that rank first, chosen after looking."
        )
    elif trust is not None and trust.kind == EXPLORATORY:
        told.append(f"This comparison was not fixed beforehand ({trust.about}), so it is for looking.")
    elif trust is not None and trust.kind == BEFOREHAND:
        told.append(f"The comparison was fixed beforehand ({trust.about}).")
    elif trust is not None:
        told.append(f"The comparison is {trust.about}.")
    if result.whole.n < CLAIM_SEEDS:
        told.append(f"A claim needs {CLAIM_SEEDS} seeds; this has {result.whole.n}.")
    return " ".join(told)


def ranking(tables: Sequence[Table]) -> Ranking | None:
    """The student methods by average rank over all conditions; None where fewer than two share a condition."""
    by_condition: dict[object, Mapping[str, float]] = {}
    for number, table in enumerate(tables):
        for shots in table.shots:
            means = {
                method: interval.mean
                for method in table.methods
                if method not in table.references and (interval := table.interval(method, shots)) is not None
            }
            if means:
                by_condition[number, shots] = means
    scores_Nk, methods = common_scores(by_condition)
    return rank_methods(scores_Nk, methods) if len(methods) > 1 and len(scores_Nk) else None


def leaders(tables: Sequence[Table]) -> tuple[str, str] | None:
    """The two methods that rank first."""
    ranked = ranking(tables)
    return None if ranked is None else (ranked.methods[0], ranked.methods[1])


def rivals(tables: Sequence[Table], verdict: Verdict) -> list[Contrast]:
    """The winner of the verdict against every other student method."""
    return [] if verdict.result is None else against_all(tables, verdict.result.first)
