"""`tcs look`: from a store (and coordinates and targets) to a page of what its teacher sees, and the numbers on it."""

import dataclasses
import pathlib
from collections.abc import Iterator

import numpy as np

from tcs.artefact import write_same
from tcs.config.look import LookConfig
from tcs.errors import DataError
from tcs.images.stored import rules_of
from tcs.images.thumbnails import Pictures, find_reader
from tcs.looking.findings import Findings
from tcs.looking.kept import compare_neighbours
from tcs.looking.maps import FEWEST_FOR_TSNE, axis_ends, make_maps, principal_points
from tcs.looking.neighbours import nearest_rows
from tcs.looking.page import PageMaker
from tcs.looking.result import Look, ShownCoordinate, TypicalClass, TypicalImage
from tcs.looking.spaces import Given, Space, Spaces, find_spaces, open_given
from tcs.looking.typical import TypicalRows, centralities, groups_of, typical_rows
from tcs.runtime import say


def look(config: LookConfig) -> Look:
    """Look at `config.store` and write the page to `config.out`; returns what it shows, a `Look`.

    A pure function of the files and the seed, on one machine.

    ArtefactError for an output that is there and differs, or files of another store or teacher; DataError for features that are not
    finite or do not vary, fewer than two rows, and `data` that lacks images; ConfigError for a `data` or `readout` that has no place;
    CacheError for what is no store.
    """
    given = open_given(config)
    if len(given.store) < 2:
        raise DataError(f"store {config.store} has {len(given.store)} row; neighbours need two or more.")
    read, said = find_reader(given.store, config.data)
    spaces = find_spaces(given, config)
    findings = _find(given, spaces, config)
    notes = [*spaces.notes, *([said] if said else []), *_notes(findings, config)]
    found = _result(config, given, findings, tuple(notes))
    data = PageMaker(findings, Pictures(read, rules_of(given.store))).render(found).encode()
    write_same(pathlib.Path(config.out), data, maker="this look shows", overwrite=config.overwrite)
    for note in notes:
        say(note)
    return dataclasses.replace(found, page_bytes=len(data))


def _find(given: Given, spaces: Spaces, config: LookConfig) -> Findings:
    labels_N = given.store.labels_N
    groups_N, names = groups_of(labels_N, given.store.classes)
    comparison = compare_neighbours(spaces.spaces, labels_N, config.seed)
    centrality_N = centralities(spaces.spaces[0], groups_N, len(names))
    typical = typical_rows(centrality_N, groups_N, names)
    points = principal_points(spaces.vectors, spaces.mean_D, spaces.covariance_DD)
    return Findings(
        keys=given.store.keys,
        names=names,
        classes=len(given.store.classes),
        groups_N=groups_N,
        centrality_N=centrality_N,
        spaces=spaces.spaces,
        comparison=comparison,
        typical=typical,
        nearest=_nearest(spaces.spaces[0], typical),
        ends=axis_ends(points),
        maps=make_maps(points.points_NJ, config.seed, with_tsne=config.map == "tsne"),
    )


def _nearest(features: Space, typical: tuple[TypicalRows, ...]) -> dict[int, tuple[int, float]]:
    """The nearest row of every shown one, and 1 - the cosine to it."""
    rows_n = np.concatenate([rows_n for item in typical for rows_n in (item.most, item.least)])
    near = nearest_rows(features.prepared(rows_n), rows_n, features.blocks(), features.rows, 1, features.scale)
    pairs = zip(near.rows_Qk[:, 0].tolist(), (1 - near.products_Qk[:, 0]).tolist(), strict=True)
    return dict(zip(rows_n.tolist(), pairs, strict=True))


def _notes(findings: Findings, config: LookConfig) -> Iterator[str]:
    """What a reader would otherwise miss without knowing it."""
    maps, rows = findings.maps, len(findings.keys)
    if len(findings.typical) < len(np.unique(findings.groups_N)):
        yield f"The {len(findings.typical):,} largest of {len(np.unique(findings.groups_N)):,} classes are shown."
    if len(maps.rows_M) < rows:
        yield f"The map shows {len(maps.rows_M):,} of the {rows:,} images, drawn with seed {config.seed}."
    if config.map == "tsne" and "t-SNE" not in maps.places:
        yield f"There is no t-SNE map: it takes {FEWEST_FOR_TSNE} images or more, which differ."


def _result(config: LookConfig, given: Given, findings: Findings, notes: tuple[str, ...]) -> Look:
    keys, comparison = findings.keys, findings.comparison
    return Look(
        store=config.store,
        readout=given.readout,
        images=len(keys),
        labelled=int((given.store.labels_N >= 0).sum()),
        neighbours=comparison.near[0].rows_Qk.shape[1],
        asked=len(comparison.asked_Q),
        kept=comparison.kept,
        classes=tuple(
            TypicalClass(
                name=item.name,
                images=item.rows,
                most=tuple(_image(findings, row) for row in item.most.tolist()),
                least=tuple(_image(findings, row) for row in item.least.tolist()),
            )
            for item in findings.typical
        ),
        coordinates=tuple(
            ShownCoordinate(
                number=item.number,
                share=item.share,
                low=tuple(keys[row] for row in item.low.tolist()),
                high=tuple(keys[row] for row in item.high.tolist()),
            )
            for item in findings.ends
        ),
        maps=tuple(findings.maps.places),
        mapped=len(findings.maps.rows_M),
        notes=notes,
        page=config.out,
        page_bytes=0,
    )


def _image(findings: Findings, row: int) -> TypicalImage:
    nearest, distance = findings.nearest[row]
    return TypicalImage(
        key=findings.keys[row],
        centrality=float(findings.centrality_N[row]),
        nearest=findings.keys[nearest],
        distance=distance,
    )
