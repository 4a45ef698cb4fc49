"""Pins for pip, from the two places that know versions: pip's own resolution, and the ranges of pyproject.toml.

`make constraints` and `make test-lowest` run

    python scripts/pins.py resolved REPORT > constraints.txt     # REPORT: of pip install --dry-run --ignore-installed --report REPORT
    python scripts/pins.py lowest pyproject.toml                 # every >= of every extra as ==

It needs the standard library alone, since it runs before anything is installed.
"""

import json
import pathlib
import platform
import re
import sys
import tomllib

# What exists for CUDA machines alone, or in other versions elsewhere: pinned where it was resolved, free on other platforms.
PLATFORM_BOUND = re.compile(r"(nvidia|cuda)-|triton$|faiss-gpu$")
RANGE = re.compile(r"(?P<name>[A-Za-z0-9._-]+)>=(?P<floor>[0-9]+(\.[0-9]+)*)(?P<marker>\s*;.*)?")

HEADER = """\
# What `make demo`, `make test` and continuous integration install. Written by `make constraints` with Python {python}
# on {system} {machine}; not edited by hand. Releases held back on purpose are the HELD of the Makefile.
# Elsewhere: make test PINS= leaves every version to pip, within the ranges of pyproject.toml.
"""


def normalised(name: str) -> str:
    """The name as package indices compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def resolved_pins(report: str, project: str) -> list[str]:
    """Pins of an installation report of pip.

    Args:
        report: The JSON that `pip install --report` writes, format version 1.
        project: The package that was resolved, which gets no pin.

    Returns:
        One `name==version` a package, sorted by name; what is bound to a platform has that platform as its marker.

    """
    found = json.loads(report)
    where = found["environment"]
    marker = "; platform_system == '{platform_system}' and platform_machine == '{platform_machine}'".format(**where)
    pins = []
    for item in found["install"]:
        name = normalised(item["metadata"]["name"])
        if name != normalised(project):
            pins.append(f"{name}=={item['metadata']['version']}{marker if PLATFORM_BOUND.match(name) else ''}")
    return sorted(pins)


def lowest_pins(pyproject: str) -> list[str]:
    """Every range of a pyproject.toml at its lower end, markers kept; extras that name the project itself add nothing.

    Raises:
        SystemExit: A requirement has no lower end, or is not of the form `name>=version; marker`.

    """
    project = tomllib.loads(pyproject)["project"]
    wanted = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    pins = set()
    for line in wanted:
        if line.startswith(f"{project['name']}["):
            continue
        found = RANGE.fullmatch(line)
        if found is None:
            raise SystemExit(f"{line!r} in pyproject.toml is no range: write name>=version, with a marker if need be.")
        pins.add(f"{found['name']}=={found['floor']}{found['marker'] or ''}")
    return sorted(pins)


def main(kind: str, path: str) -> None:
    """Print pins: `resolved REPORT` or `lowest PYPROJECT`."""
    text = pathlib.Path(path).read_text(encoding="utf-8")
    if kind == "resolved":
        print(
            HEADER.format(python=platform.python_version(), system=platform.system(), machine=platform.machine()),
            end="",
        )
        print(*resolved_pins(text, "tcs-distill"), sep="\n")
    else:
        print(*lowest_pins(text), sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
