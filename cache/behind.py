"""Shards written in the background while the next ones are made."""

import collections
import concurrent.futures
import types
from collections.abc import Callable
from typing import Generic, TypeVar

from cache.shard import ShardRows

Result = TypeVar("Result")


class WriteBehind(Generic[Result]):
    """`write_shard` of a `StoreWriter` or `PartWriter`, in threads: digests and disk leave the interpreter free.

    At most `at_most` shards are being written, so that many are in memory beside the one being made. The end of the
    `with` block waits for all of them. The first error is raised by the next call, or there; after it nothing is begun.
    """

    def __init__(self, write_shard: Callable[[int, ShardRows], Result], *, at_most: int = 1) -> None:
        """Start nothing yet; threads come with the first shard."""
        self.results: list[Result] = []
        self._write_shard = write_shard
        self._at_most = at_most
        self._pool = concurrent.futures.ThreadPoolExecutor(at_most, thread_name_prefix="write-shard")
        self._running: collections.deque[concurrent.futures.Future[Result]] = collections.deque()

    def __enter__(self) -> "WriteBehind[Result]":
        return self

    def __call__(self, index: int, rows: ShardRows) -> None:
        """Begin to write a shard, when one of those before is done. Raises what writing an earlier one raised."""
        while len(self._running) >= self._at_most:
            self._take()
        self._running.append(self._pool.submit(self._write_shard, index, rows))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        """Wait for all shards; their reports stand in `results`, in the order of the calls."""
        try:
            while kind is None and self._running:
                self._take()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _take(self) -> None:
        self.results.append(self._running.popleft().result())
