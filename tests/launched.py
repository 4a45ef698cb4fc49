"""What each rank of a launch of torchrun does: commands of `tcs`, one after the other, with what it says in files.

    torchrun --nproc-per-node 2 tests/launched.py FOLDER

FOLDER/commands.json has {name: arguments}; a rank leaves FOLDER/RANK.pid, and of each command NAME.RANK.out, .err and .code.
"""

import json
import os
import pathlib
import sys


def run_command(folder: pathlib.Path, name: str, arguments: list[str]) -> int:
    """`tcs` as this rank; its exit code."""
    from tcs.cli import main

    files = {end: folder / f"{name}.{os.environ['RANK']}.{end}" for end in ("out", "err", "code")}
    for number, end in ((1, "out"), (2, "err")):
        with files[end].open("wb") as file:
            os.dup2(file.fileno(), number)
    try:
        main(arguments)
    except SystemExit as ended:
        files["code"].write_text(str(ended.code))
    return int(files["code"].read_text())


def said(folder: pathlib.Path, name: str, end: str) -> str:
    """What all ranks said on stdout ("out") or stderr ("err") of a command, or their exit codes ("code")."""
    return "".join(path.read_text() for path in sorted(folder.glob(f"{name}.*.{end}")))


if __name__ == "__main__":
    place = pathlib.Path(sys.argv[1])
    (place / f"{os.environ['RANK']}.pid").write_text(str(os.getpid()))
    for each, given in json.loads((place / "commands.json").read_text()).items():
        run_command(place, each, given)
