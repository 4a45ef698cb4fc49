"""Ways to damage a file: by byte for any, by field for JSON, JSON lines, YAML, CSV and safetensors headers.

`doors.py` opens what comes of it.
"""

import functools
import io
import json
import pathlib
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

import yaml

Mutation = tuple[str, bytes | None]  # in words, and the bytes of the file; None: a pipe in its place
Damage = tuple[
    str, bytes | Callable[[], bytes]
]  # what makes the bytes, where all damages at once would take all memory

HUGE = 10**12
DEEP: Any = []
for _ in range(200):
    DEEP = [DEEP]
WRONG: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    HUGE,
    1.5,
    float("inf"),
    "",
    "x" * 300,
    "a\x1b[31m\nb",
    [],
    [1, "a"],
    {},
    {"a": 1},
    DEEP,
)


def mutations(path: pathlib.Path, chance: random.Random) -> Iterator[Mutation]:
    """Damages of the file without end: a pipe, then every field with every wrong value in an order drawn by `chance`, then bytes."""
    data = path.read_bytes()
    whole: list[Damage] = [
        (f"{len(other)} bytes {other[:12]!r}", other)
        for other in (b"", b"\0", b"null", b"[]", b"{}", b"\x80\x04N.", b"\xff\xfe\0", b"[" * 9999)
    ]
    fields = [*whole, *FIELDS.get(path.suffix, _no_fields)(data)]
    chance.shuffle(fields)
    yield "a pipe in its place", None
    for what, damaged in fields:
        yield what, damaged() if callable(damaged) else damaged
    while True:
        yield _bytes(data, chance)


def _bytes(data: bytes, chance: random.Random) -> Mutation:
    at, changed = chance.randrange(max(1, len(data))), bytearray(data)
    kind = chance.choice(("cut", "bit", "zeros", "longer", "random"))
    if kind == "cut":
        return f"cut at {at}", data[:at]
    if kind == "bit" and data:
        changed[at] ^= 1 << chance.randrange(8)
        return f"a bit at {at}", bytes(changed)
    if kind == "zeros":
        changed[at : at + 64] = bytes(min(64, len(data) - at))
        return f"zeros at {at}", bytes(changed)
    if kind == "longer":
        return "bytes behind the end", data + chance.randbytes(100)
    changed[at : at + 16] = chance.randbytes(16)
    return f"random bytes at {at}", bytes(changed)


def _trees(value: Any) -> Iterator[tuple[str, Any]]:
    """The value with one part of it left out or replaced, in every way; the place in words."""
    items = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value))[:4]
        if isinstance(value, list)
        else []
    )
    for key, part in items:
        rest = (
            {name: other for name, other in value.items() if name != key}
            if isinstance(value, dict)
            else value[:key] + value[key + 1 :]
        )
        yield f"without {key}", rest
        for wrong in WRONG:
            if wrong != part or type(wrong) is not type(part):
                yield f"{key}: {str(wrong)[:24]!r}", _with(value, key, wrong)
        for where, other in _trees(part):
            yield f"{key}.{where}", _with(value, key, other)


def _with(value: Any, key: Any, part: Any) -> Any:
    if isinstance(value, dict):
        return value | {key: part}
    return [*value[:key], part, *value[key + 1 :]]


def _json(data: bytes) -> Iterator[Damage]:
    for where, tree in _trees(json.loads(data)):
        yield where, json.dumps(tree).encode()


def _json_lines(data: bytes) -> Iterator[Damage]:
    first, *rest = data.splitlines(keepends=True)
    for where, tree in _trees(json.loads(first)):
        yield where, json.dumps(tree).encode() + b"\n" + b"".join(rest)


def _yaml(data: bytes) -> Iterator[Damage]:
    for where, tree in _trees(yaml.safe_load(data)):
        if "\x1b" not in where:
            yield where, yaml.safe_dump(tree).encode()


def _csv(data: bytes) -> Iterator[Damage]:
    header, *lines = data.decode().splitlines()
    names = header.split(",")
    yield "header alone", (header + "\n").encode()
    yield "a line twice", "\n".join([header, *lines, lines[0], ""]).encode()
    for number, name in enumerate(names):
        for wrong in ("", "x", "-1", "1e400", "nan", "150", '"'):
            cells = lines[0].split(",")
            if len(cells) == len(names):
                cells[number] = wrong
                yield f"{name}: {wrong!r}", "\n".join([header, ",".join(cells), *lines[1:], ""]).encode()
        yield f"without {name}", "\n".join([",".join(names[:number] + names[number + 1 :]), *lines, ""]).encode()


def _safetensors(data: bytes) -> Iterator[Damage]:
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    for where, tree in _trees(header):
        text = json.dumps(tree).encode()
        yield where, functools.partial(b"".join, (struct.pack("<Q", len(text)), text, body))
    yield "a header of 2**60 bytes", struct.pack("<Q", 2**60) + data[8:]


def _npy(data: bytes) -> Iterator[Damage]:
    import numpy as np

    array = np.load(io.BytesIO(data), allow_pickle=False)
    for name, other in (
        ("floats", array.astype("f8")),
        ("one row", array[0]),
        ("no rows", array[:0]),
        ("another width", array[..., :3]),
    ):
        buffer = io.BytesIO()
        np.save(buffer, other)
        yield name, buffer.getvalue()
    claimed = data.replace(f"'shape': ({len(array)},".encode(), b"'shape': (1099511627776,")
    yield "a shape of 2**40 rows", claimed


def _no_fields(_: bytes) -> Iterator[Damage]:
    yield from ()


FIELDS: dict[str, Callable[[bytes], Iterator[Damage]]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".yaml": _yaml,
    ".csv": _csv,
    ".safetensors": _safetensors,
    ".npy": _npy,
}
