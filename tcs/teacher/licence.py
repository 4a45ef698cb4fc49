"""What licence a teacher's published weights are under, as timm's registry or the model's own card has it."""

from collections.abc import Mapping
from typing import Any

UNKNOWN = "unknown"

# Every licence in timm's registry falls under one of these; a name that is in none of them counts as custom.
PERMISSIVE = ("apache-2.0", "mit", "bsd-3-clause", "bsd-2-clause", "cc-by-4.0", "cc0-1.0")
NON_COMMERCIAL_SIGNS = ("-nc", "noncommercial", "non-commercial", "amlr", "seer-license")


def licence_terms(licence: str) -> str:
    """permissive, non-commercial, custom (terms of its own: read them), or unknown."""
    name = licence.lower()
    if name == UNKNOWN:
        return UNKNOWN
    if any(sign in name for sign in NON_COMMERCIAL_SIGNS):
        return "non-commercial"
    return "permissive" if name in PERMISSIVE else "custom"


def licence_of(card: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """The licence's facts for provenance, from a `pretrained_cfg`; `origin` says whose word it is."""
    licence = str(card.get("license") or UNKNOWN)
    papers = card.get("paper_ids") or ()
    return {
        "licence": licence,
        "licence_terms": licence_terms(licence),
        "licence_according_to": origin,
        "origin_url": card.get("origin_url"),
        "paper_ids": [papers] if isinstance(papers, str) else list(papers),
    }


def licence_line(facts: Mapping[str, Any]) -> str:
    """In a few words: what one may do, or that one must look."""
    notes = {
        "permissive": "",
        "non-commercial": ": non-commercial use only",
        "custom": ": terms of its own, read them before use",
        UNKNOWN: ": ask whoever made the weights",
    }
    return f"licence {facts['licence']}{notes[facts['licence_terms']]}"
