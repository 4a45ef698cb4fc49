"""timm's ``hfds/NAME``: Hugging Face data sets with random access, local ones by their path (``hfds/./folder``).

Rows have no paths that could be relied on: keys are their places in the split (``00000012``). The encoded bytes are used
as they are stored.
"""

import logging
import pathlib
import re
from typing import Any

from tcs.config.extract import DataConfig
from tcs.errors import DataError, did_you_mean, shown
from tcs.images.folder import find_split
from tcs.images.listing import ImageList, index_keys, make_list
from tcs.ordinary import read_ordinary, read_text

IMAGE, LABEL, PARQUET = "image", "label", "parquet"
SAVED_TO_DISK = ("state.json", "dataset_dict.json")
BATCH_ROWS = 1000
CARDS = ("README.md", ".huggingface.yaml")  # of a data set, which may name its files
URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"\],}]+")


class ColumnFiles:
    """The images of one column of a data set by the number that their key is."""

    def __init__(self, dataset: Any, column: str) -> None:
        self._dataset, self._column = dataset.select_columns([column]), column
        self._sizes: list[int] | None = None

    def read(self, key: str) -> bytes:
        """The bytes of the image, of the row or of the file the row names; OSError where there are none."""
        value = self._dataset[int(key)][self._column]
        if isinstance(value, bytes):
            return value
        if not value or (value["bytes"] is None and not value["path"]):
            raise OSError("the data set has no image in this row")
        if value["bytes"] is not None:
            return bytes(value["bytes"])
        return read_ordinary(value["path"])

    def size(self, key: str) -> int:
        """The length of those bytes; those of all rows are looked up at once, without reading them."""
        if self._sizes is None:
            batches = self._dataset.with_format("arrow").iter(batch_size=BATCH_ROWS)
            self._sizes = [size for table in batches for size in _sizes(table[self._column].combine_chunks())]
        return self._sizes[int(key)]


def _sizes(column: Any) -> list[int]:
    import pyarrow.compute
    import pyarrow.types

    if not pyarrow.types.is_struct(column.type):
        return [size or 0 for size in pyarrow.compute.binary_length(column).to_pylist()]
    sizes = pyarrow.compute.binary_length(pyarrow.compute.struct_field(column, "bytes")).to_pylist()
    paths = pyarrow.compute.struct_field(column, "path").to_pylist() if None in sizes else [None] * len(sizes)
    return [_file_size(path) if size is None else size for size, path in zip(sizes, paths, strict=True)]


def _file_size(path: str | None) -> int:
    return pathlib.Path(path).stat().st_size if path and pathlib.Path(path).is_file() else 0


def open_hfds(config: DataConfig) -> ImageList:
    """The images of ``hfds/NAME`` in the data set's order, with its class names.

    NAME is a folder or a .parquet file, or a name on the Hub, which is asked only with `dataset_download`. DataError:
    neither, no such split or none named, no such column or one of another kind.
    """
    name = config.data.partition("/")[2]
    if not name or name.lower().endswith(".csv"):
        remedy = "a CSV table is DATA itself" if name else "give a folder, a .parquet file or a name on the Hub"
        raise DataError(f"{config.data} names no data set; {remedy}.")
    dataset = _one_split(config, _load(config, name))
    column, target = config.input_key or IMAGE, config.target_key or LABEL
    dataset = _with_bytes(config, dataset, column)
    classes, labels = _labels(config, dataset, target)
    keys = index_keys(len(dataset))
    return make_list(
        config,
        root=config.data,
        names=dict(zip(keys, labels, strict=True)),
        classes=classes,
        files=ColumnFiles(dataset, column),
        origin=_origin(config, dataset),
    )


def _origin(config: DataConfig, dataset: Any) -> dict[str, Any]:
    import datasets

    facts = {"kind": "hfds", "name": config.data, "split": config.split, "fingerprint": dataset._fingerprint}
    return facts | {"datasets": datasets.__version__}


def _load(config: DataConfig, name: str) -> Any:
    """What datasets loads, one split or several by name; nothing is asked of the Hub unless `dataset_download`."""
    try:
        import datasets.utils
    except ImportError as error:
        raise DataError(f"reading {config.data} needs datasets: pip install tcs-distill[data]") from error
    path = pathlib.Path(str(config.data_dir) if name == PARQUET and config.data_dir else name)
    if not path.exists() and not config.dataset_download:
        raise DataError(
            f"{config.data}: there is no folder or file {path} here; correct it,"
            f" or add --dataset-download to take {name} from the Hugging Face Hub (or from its cache)."
        )
    if not config.dataset_download:
        _refuse_urls(config, path)
    logging.getLogger("datasets").setLevel(logging.CRITICAL)  # it logs what it also raises
    quiet = datasets.utils.are_progress_bars_disabled()
    datasets.utils.disable_progress_bars()
    try:
        return _load_with(datasets, name, path, config.data_dir)
    except Exception as error:  # nearly every type, from pyarrow's to the Hub's
        reason = (str(_first_cause(error)).splitlines() or [""])[0][:200].rstrip(".") or type(error).__name__
        raise DataError(f"{config.data} cannot be loaded ({reason}); correct its name or its files.") from error
    finally:
        if not quiet:
            datasets.utils.enable_progress_bars()


def _refuse_urls(config: DataConfig, path: pathlib.Path) -> None:
    """DataError for a local folder whose card names files elsewhere, which datasets would fetch."""
    for card, text in ((path / name, _head(path / name)) for name in CARDS):
        remote = [url for url in URL.findall(text) if not url.startswith("file://")]
        if remote:
            raise DataError(
                f"{config.data}: its card {card} names {shown(remote[0], 80)}, which is not here; add --dataset-download to fetch it, "
                "or take the line out of the card."
            )


def _head(card: pathlib.Path) -> str:
    """What datasets reads of a card: all of a YAML file, of a text what stands between its first two lines of dashes."""
    if not card.is_file():
        return ""
    text = read_text(card, errors="replace")
    if card.suffix == ".yaml":
        return text
    before, *parts = text.split("---", 2)
    return parts[0] if parts and not before.strip() else ""


def _first_cause(error: BaseException) -> BaseException:
    """datasets wraps what went wrong in an error that only says that something did."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _load_with(datasets: Any, name: str, path: pathlib.Path, data_dir: str | None) -> Any:
    if name == PARQUET and data_dir:
        return datasets.load_dataset(PARQUET, data_dir=data_dir)
    if path.is_file():
        return datasets.load_dataset(PARQUET, data_files=name, cache_dir=data_dir)
    if any((path / mark).exists() for mark in SAVED_TO_DISK):
        return datasets.load_from_disk(name)
    return datasets.load_dataset(name, cache_dir=data_dir)


def _one_split(config: DataConfig, loaded: Any) -> Any:
    """The split asked for, or the only one there is."""
    if not isinstance(loaded, dict):  # saved to disk as one
        if config.split is not None and config.split != str(loaded.split):
            raise DataError(f"{config.data} is one split, {loaded.split}; leave out --split {config.split}.")
        return loaded
    splits = {str(name): dataset for name, dataset in loaded.items()}
    if config.split is None and len(splits) > 1:
        raise DataError(
            f"{config.data} holds the splits {', '.join(splits)}; choose one, as --split {next(iter(splits))}."
        )
    return splits[next(iter(splits)) if config.split is None else find_split(config.split, splits, config.data)]


def _with_bytes(config: DataConfig, dataset: Any, column: str) -> Any:
    """`dataset`, its images left encoded. DataError: no such column, or one that holds no images; no rows."""
    import datasets

    _require_column(config, dataset, column, "--input-key")
    if not len(dataset):
        raise DataError(f"{config.data} holds no rows; choose another split.")
    feature = dataset.features[column]
    if isinstance(feature, datasets.Image) or set(feature if isinstance(feature, dict) else ()) == {"bytes", "path"}:
        return dataset.cast_column(column, datasets.Image(decode=False))
    if getattr(feature, "dtype", None) in ("binary", "large_binary"):
        return dataset
    raise DataError(
        f"{config.data} has the column {column} of kind {feature}; it must hold images, name one with --input-key."
    )


def _require_column(config: DataConfig, dataset: Any, column: str, option: str) -> None:
    names = dataset.column_names
    if column not in names:
        hint = did_you_mean(column, names)
        raise DataError(
            f"{config.data} has no column '{column}' (it has {', '.join(names)}); name one with {option}.{hint}"
        )


def _labels(config: DataConfig, dataset: Any, column: str) -> tuple[tuple[str, ...] | None, list[str | None]]:
    """The class names in their order (None: as found), and one name a row; none where there is no label column."""
    import datasets

    if config.labels == "none" or (config.target_key is None and column not in dataset.column_names):
        return None, [None] * len(dataset)
    _require_column(config, dataset, column, "--target-key")
    feature, values = dataset.features[column], list(dataset[column])
    if isinstance(feature, datasets.ClassLabel):
        known = [value is not None and value >= 0 for value in values]
        return tuple(feature.names), [
            feature.names[v] if is_known else None for v, is_known in zip(values, known, strict=True)
        ]
    if str(getattr(feature, "dtype", "")).startswith(("string", "large_string", "int", "uint")):
        return None, [None if value is None else str(value).strip() or None for value in values]
    raise DataError(
        f"{config.data} has the column {column} of kind {feature}; a label is a class, a text or a whole number:"
        " name another column with --target-key, or use --labels none."
    )
