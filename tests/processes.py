"""Ranks as processes of their own, joined over gloo, with the test's process in the launcher's place."""

import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch
from forks import begin, fork_context
from torch.distributed import TCPStore

from tcs.distributed.collectives import joined_collectives
from tcs.distributed.ranks import joined_ranks

Work = Callable[..., Any]
ANSWER_SECONDS = 60.0


def run_ranks(world_size: int, work: Work, *arguments: Any) -> list[Any]:
    """What `work(collectives, *arguments)` returned on each rank, or the error that it raised there; None where it died."""
    return run_processes(world_size, _joined, work, *arguments)


def _joined(work: Work, *arguments: Any) -> Any:
    with joined_ranks() as ranks, joined_collectives(torch.device("cpu"), ranks) as together:
        return work(together, *arguments)


def run_processes(world_size: int, work: Work, *arguments: Any) -> list[Any]:
    """The same of `work(*arguments)` in processes that have joined nothing yet.

    No process ends before all have answered: none hears of a failure by a closed connection.
    """
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
    try:
        found = work(*arguments)
    except (Exception, SystemExit) as error:
        found = error
    pipe.send(found)
    pipe.poll(None)  # until the test's process has all answers
