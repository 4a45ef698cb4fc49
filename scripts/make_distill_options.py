"""Write tcs/config/distill_options.py, the options of `tcs distill` side by side, from the configurations of its stages.

    python scripts/make_distill_options.py

A test holds the file against what this would write. It is a file, and not made at run time, because type checkers and editors read
files.
"""

import collections.abc
import dataclasses
import pathlib
from typing import Any

import tcs
from tcs.config.distill import PREFIXES, DistillConfig, option_names, stage_defaults
from tcs.config.plain import AnyPath
from tcs.config.train import TrainOptions

PATH = pathlib.Path(tcs.__file__).parent / "config" / "distill_options.py"
REQUIRED = ("out", "models")
KINDS: dict[str, type] = {
    "extract": tcs.ExtractConfig,
    "train": TrainOptions,
    "fit": tcs.FitConfig,
    "targets": tcs.TargetsConfig,
}
HEAD = '''"""All options of `tcs distill` side by side. Written by scripts/make_distill_options.py; not to be edited."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from tcs.config.distill import DistillConfig
from tcs.config.plain import PathText


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillOptions:
    """All options of `tcs distill` side by side, as the command line has them and `tcs.distill(...)` takes them."""

    data: PathText = dataclasses.field(kw_only=False)
'''
FOOT = '''
    def config(self) -> DistillConfig:
        """The configuration of these options; ConfigError for values that make no sense."""
        return DistillConfig.from_options(vars(self))
'''


def kind_of(field: dataclasses.Field[Any]) -> str:
    """The annotation of a field as source."""
    kind: Any = field.type
    text = kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)
    text = text.replace(str(AnyPath), "PathText")
    return text.replace(f"{collections.abc.__name__}.", "").replace("typing.", "")


def line_of(name: str, field: dataclasses.Field[Any], default: Any) -> str:
    """The line of an option in a dataclass."""
    if name in REQUIRED:
        return f"    {name}: {kind_of(field)}\n"
    value = repr(default) if default != {} else "dataclasses.field(default_factory=dict)"
    return f"    {name}: {kind_of(field)} = {value}\n"


def options() -> dict[str, str]:
    """name -> its line: what cannot be left out first, then the chain's own options, then the stages'."""
    own = {field.name: line_of(field.name, field, field.default) for field in dataclasses.fields(DistillConfig)}
    found = {name: line for name, line in own.items() if name not in PREFIXES}
    for stage, names in option_names().items():
        fields = {field.name: field for field in dataclasses.fields(KINDS[stage])}
        for option, name in names.items():
            found.setdefault(name, line_of(name, fields[option], stage_defaults()[stage][option]))
    return {name: found[name] for name in sorted(found, key=lambda name: name not in REQUIRED)}


def source() -> str:
    """The file as it is to be."""
    return HEAD + "".join(options().values()).replace("'", '"') + FOOT


if __name__ == "__main__":
    PATH.write_text(source())
