"""`tcs suggest` on `PLACE/x.store`, and what people make of its tables."""

import csv

import tcs


def run(place, out, n=6, **options):
    return tcs.suggest(tcs.SuggestConfig(store=place / "x.store", n=n, out=out, **options))


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def fill_in(path, into, skip=(), name=lambda key: key.partition("/")[0]):
    """The table of `path` as a person leaves it, but for the ranks in `skip`."""
    rows = rows_of(path)
    for row in rows:
        row["class"] = "" if int(row["rank"]) in skip else name(row["key"])
    with into.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return into
