"""Headers of coordinate systems and of targets; the arrays beside them have shapes that their readers check."""

from typing import Any, Literal

import msgspec

from tcs.schemas.values import Count, Power


class SelectionFacts(msgspec.Struct):
    """The coordinates that one split's labels ask for: `active` are their numbers."""

    active: list[Count]
    method: str
    split_digest: str
    history: list[dict[str, Any]]
    note: str


class CoordinateFacts(msgspec.Struct):
    """The JSON text under the key `facts` in the metadata of a coordinate system, a .safetensors file. It has no other field: its
    identity is of all of them."""

    identity: str
    method: str
    power: Power
    rows_fitted: Count
    seed: int
    selection: SelectionFacts | None
    readout: str = ""
    store_identity: str = ""
    teacher_identity: str = ""
    ceiling: dict[str, Any] | None = None
    config: dict[str, Any] = msgspec.field(default_factory=dict)
    environment: dict[str, Any] = msgspec.field(default_factory=dict)


class TargetFacts(msgspec.Struct):
    """The JSON text in the data set `facts` of a targets file, HDF5."""

    format: Literal["tcs-targets"]
    format_version: Literal[1, 2]
    store_identity: str
    identity: str
    config: dict[str, Any]
    system: CoordinateFacts
    provenance: dict[str, Any] = msgspec.field(default_factory=dict)
