"""Python and the packages: there, and of versions that were tried."""

import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata

from tcs.doctor.finding import ERROR, WARNING, Finding

Version = tuple[int, ...]
PYTHON = ("3.11", "3.14")

# distribution -> (lowest, newest that the tests were run with). The ends of pyproject.toml and constraints.txt, a test says so.
NEEDED: Mapping[str, tuple[str, str]] = {
    "click": ("8.2", "8.5"),
    "h5py": ("3.12.1", "3.16"),
    "jinja2": ("3.1", "3.1"),
    "markupsafe": ("2.1", "3.0"),
    "msgspec": ("0.20", "0.23"),
    "numpy": ("2.0", "2.5"),
    "pillow": ("11.1", "13.0"),
    "pyyaml": ("6", "6.0"),
    "rich": ("13.9", "15.0"),
    "safetensors": ("0.5", "0.8"),
    "scikit-learn": ("1.6", "1.9"),
    "scipy": ("1.14", "1.17"),
    "threadpoolctl": ("3.5", "3.8"),
    "timm": ("1.0.31", "1.0"),
    "torch": ("2.7", "2.15"),
    "torchvision": ("0.22", "0.29"),
}
OPTIONAL: Mapping[str, tuple[str, str, str]] = {  # distribution -> (extra, lowest, newest)
    "datasets": ("data", "4.0", "5.2"),
    "matplotlib": ("plots", "3.10.8", "3.11"),
    "onnx": ("export", "1.23", "1.23"),
    "onnxruntime": ("export", "1.32", "1.32"),
    "onnxscript": ("export", "0.7", "0.7"),
    "pillow-heif": ("heif", "1.8", "1.8"),
    "pyarrow": ("data", "21", "26.0"),
    "ray": ("ray", "2.50", "2.60"),
    "simplejpeg": ("fast", "1.8", "1.9"),
    "submitit": ("submitit", "1.5", "1.5"),
    "tensorboard": ("tensorboard", "2.20", "2.21"),
}
FAISS = ("faiss-gpu", "faiss-cpu")
FAISS_TESTED = ("1.15", "1.15")
IMPORTED_AS = {"pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn"}


def check_python() -> Finding:
    """The interpreter."""
    found = ".".join(map(str, sys.version_info[:3]))
    return _judge("python", found, *PYTHON)


def check_packages() -> Iterator[Finding]:
    """Every package that is needed, and those of the extras that are there."""
    for name, (lowest, newest) in NEEDED.items():
        found = version_of(name)
        if found is None:
            yield Finding(
                name=name, level=ERROR, text="not installed", remedy="pip install tcs-distill (it brings what it needs)"
            )
        else:
            yield _judge(name, found, lowest, newest)
    for name, (extra, lowest, newest) in OPTIONAL.items():
        found = version_of(name)
        if found is None:
            yield Finding(name=name, text=f"not installed (optional: pip install 'tcs-distill[{extra}]')")
        else:
            yield _judge(name, found, lowest, newest)


def check_faiss_build() -> Finding:
    """Which build of faiss is installed; two of them overwrite each other's files."""
    found = {name: version for name in FAISS if (version := version_of(name)) is not None}
    if not found:
        if importlib.util.find_spec("faiss") is not None:  # conda's, or one's own
            return Finding(name="faiss", text="of unknown origin (no pip package): see whether it runs, below")
        return Finding(name="faiss", level=ERROR, text="not installed", remedy="pip install faiss-cpu")
    if len(found) > 1:
        remedy = "pip uninstall -y faiss-cpu faiss-gpu, then install one of them"
        return Finding(
            name="faiss", level=ERROR, text="faiss-cpu and faiss-gpu are both installed and share files", remedy=remedy
        )
    ((name, version),) = found.items()
    return _judge(name, version, *FAISS_TESTED)


def _install(name: str, range_: str) -> str:
    return f"install Python {range_}" if name == "python" else f"pip install '{name}{range_}'"


def version_of(distribution: str) -> str | None:
    """The installed version; None where the package is not there, or was removed by hand and left its metadata."""
    module = IMPORTED_AS.get(distribution, distribution.removesuffix("-gpu").removesuffix("-cpu"))
    try:
        found = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
    return found if importlib.util.find_spec(module) is not None else None


def release(version: str) -> Version:
    """The numbers that a version begins with: 2.14.1+cu130 is (2, 14, 1)."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def _judge(name: str, found: str, lowest: str, newest: str) -> Finding:
    """Too old is an error; newer than what was tried, a warning (of the first numbers that `newest` has)."""
    if release(found) < release(lowest):
        return Finding(
            name=name, level=ERROR, text=f"{found}, older than {lowest}", remedy=_install(name, f">={lowest}")
        )
    if release(found)[: len(release(newest))] > release(newest):
        text = f"{found}, newer than {newest}, the newest tested"
        back = f"if anything fails, go back: {_install(name, f'=={newest}.*')}"
        return Finding(name=name, level=WARNING, text=text, remedy=back)
    return Finding(name=name, text=found)
