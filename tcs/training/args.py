"""args.yaml: the resolved options of a run, as timm writes them; `-c args.yaml` repeats the run."""

import pathlib
from typing import Any

import yaml

from cache import atomic_write_bytes
from tcs.config import as_json

ARGS = "args.yaml"
# Asked for each time, never by a file that a run left behind: one deletes, the other keeps the run from happening.
LEFT_OUT = ("overwrite", "dry_run")


def save_args(path: pathlib.Path, config: Any) -> None:
    """Write all options of `config`, a configuration of tcs.config, in its order, whole or not at all.

    `tcs train -c PATH` then makes an equal configuration, but for `overwrite` and `dry_run`, which are left out. Options
    that hold a mapping have no form in it and are refused by an assertion.
    """
    options = {key: _plain(value) for key, value in as_json(config).items() if key not in LEFT_OUT}
    assert not any(isinstance(value, dict) for value in options.values()), (
        "options of a file are texts and lists of texts"
    )
    # As PyYAML writes floats, 1.0e-05 and not 1e-05, other readers of YAML see a number too. No line is folded.
    text = yaml.safe_dump(options, sort_keys=False, allow_unicode=True, width=float("inf"))
    head = f"# All options of this run, resolved. To repeat it: tcs train -c {path.name}\n"
    atomic_write_bytes(path, (head + text).encode())


def _plain(value: Any) -> Any:
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else value
