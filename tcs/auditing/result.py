"""All that an audit found, as Python objects."""

import dataclasses
from collections import Counter

from tcs.auditing.findings import AuditFinding
from tcs.auditing.outliers import ClassFacts
from tcs.config.audit import KINDS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Confusion:
    """Images of class `label` that the out-of-fold probe takes for `taken_for`: how many, of how many."""

    label: str
    taken_for: str
    images: int
    rows: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audit:
    """All that was found in the `rows` of `store`, of which `labelled` have a class.

    `findings` are the lines of the table: `kind`, `key`, `label`, `suggested`, `other_key`, `other_store`, and a `score` that ranks
    lines of one kind. `confusions` has one entry an ordered pair of classes, most first: `images` of the `rows` of class `label` that the
    out-of-fold probe takes for class `taken_for`. `classes` has one entry a class: `name`, labelled `rows`, `spread` (mean squared
    distance from their mean, 1 for the median class), `is_few`, `is_one_sided`. `notes` say in words what could not be looked for.
    """

    store: str
    rows: int
    labelled: int
    findings: tuple[AuditFinding, ...]
    confusions: tuple[Confusion, ...]
    classes: tuple[ClassFacts, ...]
    notes: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """Lines of every kind."""
        found = Counter(item.kind for item in self.findings)
        return {kind: found[kind] for kind in KINDS}

    def of(self, kind: str) -> list[AuditFinding]:
        """The lines of one kind, the worst first."""
        return [item for item in self.findings if item.kind == kind]
