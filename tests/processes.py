"""Ranks as processes of their own: joined over gloo, with the test's process in the launcher's place, or under torchrun."""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import torch
from forks import Forked, begin, fork_context, forked
from torch.distributed import TCPStore

from tcs.distributed import ranks as ranks_module
from tcs.distributed.collectives import Collectives
from tcs.distributed.ranks import joined_ranks

Work = Callable[..., Any]
ANSWER_SECONDS = 60.0
ROOT = pathlib.Path(__file__).parents[1]
LAUNCHER_SECONDS = 45.0  # torchrun ends the other ranks at once, and kills them after 30 s


def run_ranks(world_size: int, work: Work, *arguments: Any) -> list[Any]:
    """What `work(collectives, *arguments)` returned on each rank, or the error that it raised there; None where it died."""
    return run_processes(world_size, _joined, work, *arguments)


def _joined(work: Work, *arguments: Any) -> Any:
    with joined_ranks() as ranks:
        return work(Collectives(ranks, torch.device("cpu")), *arguments)


def run_processes(world_size: int, work: Work, *arguments: Any) -> list[Any]:
    """The same of `work(*arguments)` in processes that have joined nothing yet. A process that fails ends at once."""
    context = fork_context()
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    pipes = [context.Pipe() for _ in range(world_size)]
    processes = [
        context.Process(target=_rank, args=(rank, world_size, store.port, theirs, work, arguments), daemon=True)
        for rank, (_, theirs) in enumerate(pipes)
    ]
    for process, (_, theirs) in zip(processes, pipes, strict=True):
        process.start()
        theirs.close()
    answers = [_answer(ours) for ours, _ in pipes]
    for process, (ours, _) in zip(processes, pipes, strict=True):
        ours.close()
        process.join(ANSWER_SECONDS)
        process.close()
    return answers


def _answer(pipe: Connection) -> Any:
    assert pipe.poll(ANSWER_SECONDS), "a rank hangs"
    try:
        return pipe.recv()
    except EOFError:
        return None


def _rank(rank: int, world_size: int, port: int, pipe: Connection, work: Work, arguments: tuple[Any, ...]) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    begin()
    ranks_module.LAUNCHER_SECONDS = 0.0  # there is none
    try:
        found = work(*arguments)
    except (Exception, SystemExit) as error:
        found = error
    pipe.send(found)
    if not isinstance(found, BaseException):
        pipe.poll(None)  # until the test's process has all answers: it fetches tensors from this one


@contextlib.contextmanager
def torchrun(folder: pathlib.Path, world_size: int, *program: str) -> Iterator[Forked]:
    """The launcher that starts `program` (a script or -m and a module, and its arguments) as so many ranks, in fresh interpreters.

    Itself it is `python -m torch.distributed.run` in a fork. What all of them say is in files of `folder`.
    """
    launcher = ["--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(world_size)]
    with forked(folder, _launch, [*launcher, *program]) as child:
        yield child


def _launch(arguments: list[str]) -> None:
    from torch.distributed.run import main

    os.chdir(ROOT)
    os.environ |= {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }  # finds the packages of this checkout, whatever its script
    main(arguments)


def told(err: str) -> list[str]:
    """What the ranks of a failed launch have said on stderr: all but torchrun's log and its account of the failure."""
    lines = err.splitlines()
    own = [number for number, line in enumerate(lines) if "/elastic/" in line and line[0] in "EW"]
    account = next(number for number in own if lines[number].startswith("E"))
    return [line for number, line in enumerate(lines[:account]) if number not in own]
