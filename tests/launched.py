"""`tcs` as one of several ranks that no torchrun has started: each leaves what it says in files NAME.RANK.out, .err and .code."""

import os
import pathlib


def run_command(folder: pathlib.Path, name: str, arguments: list[str]) -> int:
    """`tcs` as this rank; 0, its exit code. Another one is raised, as it would end the process: the other ranks hear of it so."""
    from tcs import cli

    cli.RANK_0_SECONDS = 0.0  # what the ranks say does not mix
    files = {end: folder / f"{name}.{os.environ['RANK']}.{end}" for end in ("out", "err", "code")}
    for number, end in ((1, "out"), (2, "err")):
        with files[end].open("wb") as file:
            os.dup2(file.fileno(), number)
    try:
        cli.main(arguments)
    except SystemExit as ended:
        files["code"].write_text(str(ended.code))
        if ended.code:
            raise
    return int(files["code"].read_text())


def said(folder: pathlib.Path, name: str, end: str) -> str:
    """What all ranks said on stdout ("out") or stderr ("err") of a command, or their exit codes ("code")."""
    return "".join(path.read_text() for path in sorted(folder.glob(f"{name}.*.{end}")))
