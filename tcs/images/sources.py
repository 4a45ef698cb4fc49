"""DATA, whatever it is, as one list of images: a folder, a .tar, a .csv or .parquet table, or a timm data set string."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator

from tcs.config.extract import DataConfig
from tcs.errors import ConfigError, DataError, option_name
from tcs.images.folder import open_folder
from tcs.images.hfds import open_hfds
from tcs.images.listing import ImageList
from tcs.images.table import open_table
from tcs.images.tar import open_tar
from tcs.images.torchvision import open_torch
from tcs.images.unlabelled import joined


@dataclasses.dataclass(frozen=True)
class DataKind:
    """A kind of DATA: what to call it, how it is opened, and which of the options have a meaning for it."""

    noun: str
    open: Callable[[DataConfig], ImageList]
    options: frozenset[str]


FOLDER = DataKind("a folder of images", open_folder, frozenset({"split", "class_map", "labels"}))
TAR = DataKind("a tar of images", open_tar, frozenset({"split", "class_map", "labels"}))
TABLE = DataKind("a table of paths", open_table, frozenset({"data_dir", "input_key", "target_key", "class_map"}))

# By the end of the file name, for what is not a folder
FILES = {".tar": TAR, ".csv": TABLE, ".parquet": TABLE}

# By the word before the first slash, as timm has it. A folder of such a name is given as ./torch/...
PREFIXES = {
    "torch": DataKind("a data set of torchvision", open_torch, frozenset({"data_dir", "dataset_download", "split"})),
    "hfds": DataKind(
        "a Hugging Face data set",
        open_hfds,
        frozenset({"data_dir", "dataset_download", "split", "input_key", "target_key", "class_map"}),
    ),
}

STREAMS = {
    "hfids": "read it with random access as hfds/",
    "tfds": "save its images into one folder per class",
    "wds": "unpack its tars into a folder, or give one of them as DATA",
}

ARCHIVES = (".gz", ".tgz", ".xz", ".txz", ".bz2", ".tbz2", ".zst", ".zip", ".7z", ".rar")

# Options of DataConfig that not every kind of DATA can follow, and the value that says nothing; `labels` may always be none
EVERYWHERE = ("data", "unlabelled_data")
OPTIONS = {field.name: field.default for field in dataclasses.fields(DataConfig) if field.name not in EVERYWHERE}


def open_images(config: DataConfig) -> ImageList:
    """The images that `config` describes. DataError: they cannot be listed; ConfigError: an option without a meaning."""
    with _readable(config):
        images = choose_source(config).open(config)
    if not config.unlabelled_data:
        return images
    return joined(images, [(data, _open_unlabelled(data)) for data in config.unlabelled_data])


def _open_unlabelled(data: str) -> ImageList:
    """The images of one --unlabelled-data; DataError for what is no folder, .tar or table on this disk."""
    if data.partition("/")[0].lower() in PREFIXES and not pathlib.Path(data).exists():
        raise DataError(f"--unlabelled-data is {data}; it must be a folder, a .tar or a table.")
    try:
        return open_images(DataConfig(data=data, labels="none"))
    except DataError as error:
        raise DataError(f"--unlabelled-data: {error}") from error


def choose_source(config: DataConfig) -> DataKind:
    """The kind of source that `config` describes, before any image is listed. Errors as of `open_images`."""
    with _readable(config):
        source = find_source(config.data)
        _refuse_idle_options(config, source)
        return source


@contextlib.contextmanager
def _readable(config: DataConfig) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # a folder that may not be read, a name that is too long
        raise DataError(f"{config.data[:200]} cannot be read ({error.strerror or error}); correct DATA.") from error


def _refuse_idle_options(config: DataConfig, source: DataKind) -> None:
    for name, default in OPTIONS.items():
        value = getattr(config, name)
        if value != default and name not in source.options and (name, value) != ("labels", "none"):
            flag = option_name(name) + ("" if value is True else f" {value}")
            raise ConfigError(f"{flag} has no meaning for {source.noun} such as {config.data}; leave it out.")


def find_source(data: str) -> DataKind:
    """The kind of source that the string `data` names. DataError where it names none."""
    prefix, slash, _ = data.partition("/")
    if slash and prefix.lower() in STREAMS:
        raise DataError(
            f"{data} is a stream: its images have no place that a store could name them by; {STREAMS[prefix.lower()]}."
        )
    if slash and prefix.lower() in PREFIXES:
        return PREFIXES[prefix.lower()]
    path = pathlib.Path(data)
    if data and path.is_dir():
        return FOLDER
    suffix = path.suffix.lower()
    if suffix in ARCHIVES:
        raise DataError(
            f"{data} is a compressed archive; unpack it and give the folder, or pack it again as a plain .tar."
        )
    if suffix not in FILES:
        what = "is a file of another kind" if data and path.exists() else "does not exist"
        raise DataError(f"'{data}' {what}; DATA must be a folder, a .tar, a .csv, a .parquet, torch/NAME or hfds/NAME.")
    return FILES[suffix]
