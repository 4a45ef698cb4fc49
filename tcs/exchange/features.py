"""A store from features that somebody holds already, and the way back."""

import pathlib
from collections.abc import Callable

import cache
from tcs.config.exchange import ImportConfig
from tcs.config.plain import AnyPath, given_path
from tcs.exchange.arrays import FeatureTable, read_arrays, read_export
from tcs.exchange.parquet_read import read_parquet
from tcs.exchange.parquet_write import export_parquet
from tcs.runtime import environment, progress_bar

PARQUET = ".parquet"


def import_features(config: ImportConfig) -> pathlib.Path:
    """Write the arrays that `config` names into a store; returns its path. The same call resumes.

    Raises DataError for files that cannot be read as what they should be, CacheError for contents that do not fit.
    """
    table = read_table(config)
    told = {} if config.teacher is None else {"teacher": config.teacher}
    identity = {**table.made_from, **told, **({"notes": dict(config.notes)} if config.notes else {})}
    with progress_bar(len(table.keys), "import", "rows") as bar:
        return cache.create(
            config.out,
            table.features,
            keys=table.keys,
            labels=table.labels,
            classes=table.classes,
            images=table.images,
            hashes=table.hashes,
            identity=identity,
            dtype=config.dtype,
            rows_per_shard=config.rows_per_shard,
            provenance={
                "imported": config.source or dict(config.features),
                "environment": environment(),
                **table.provenance,
            },
            overwrite=config.overwrite,
            progress=bar.advance,
        )


def read_table(config: ImportConfig) -> FeatureTable:
    """What `config` names, by the kind of its source: an .npy or .parquet file, or the folder of an export."""
    if config.source is not None and pathlib.Path(config.source).suffix.lower() == PARQUET:
        return read_parquet(config)
    if config.source is not None and pathlib.Path(config.source).is_dir():
        return read_export(config)
    return read_arrays(config)


def export_features(
    store: AnyPath,
    out: AnyPath,
    *,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> pathlib.Path:
    """Write the rows of a store into one .parquet file, or else into a folder of arrays and texts (`cache.export`); returns `out`.

    `progress` is called with the number of rows written since the last call. The same call resumes. Raises CacheError where there
    is no closed store, or `out` holds something else (unless `overwrite`); DataError for parquet without pyarrow.
    """
    place = given_path("out", out)
    export = export_parquet if place.suffix.lower() == PARQUET else cache.export
    return export(str(given_path("store", store)), str(place), overwrite=overwrite, progress=progress)
