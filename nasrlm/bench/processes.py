"""Long tasks in this process or in several, each with one thread, which make way for new ones before they grow slow."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack
from typing import TypeVar, TypeVarTuple

#: Minutes after which a process is given no further task: the heap of one that has read and trained for long is
#: full of holes, and finding room for a tensor takes longer and longer. A new one has to import and read tables again.
LIFE = 20.0
T = TypeVar("T")
Args = TypeVarTuple("Args")


def completed(
    function: Callable[[*Args], T], calls: Sequence[tuple[*Args]], *, workers: int = 1, minutes: float = 0
) -> Iterator[tuple[tuple[*Args], T]]:
    """What ``function`` returns for each of ``calls``, as it is finished, with its arguments.

    Args:
        function: Defined in a module, so that processes can be told of it.
        calls: Its arguments, in the order in which calls begin.
        workers: Processes; 1 calls in this process.
        minutes: Begin nothing after so long; 0 has no limit.
    """
    start, following = time.monotonic(), iter(calls)

    def begins() -> Iterator[tuple[*Args]]:
        while not (minutes and time.monotonic() - start > 60 * minutes) and (call := next(following, None)) is not None:
            yield call

    if workers == 1:
        pin_threads()
        yield from ((call, function(*call)) for call in begins())
        return
    begun, running = begins(), dict[Future[T], tuple[tuple[*Args], _Process]]()
    with ExitStack() as stack:
        idle = [stack.enter_context(_Process()) for _ in range(workers)]
        while True:
            while idle and (call := next(begun, None)) is not None:
                process = idle.pop()
                running[process.submit(function, *call)] = call, process
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                call, process = running.pop(future)
                idle.append(process)
                yield call, future.result()


def process_pool(workers: int) -> ProcessPoolExecutor:
    """Processes with one thread each, those of numpy's and scipy's linear algebra included, which read it once."""
    os.environ["OMP_NUM_THREADS"] = "1"
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=pin_threads)


def pin_threads() -> None:
    """One thread of torch for this process: several on few cores only make them quarrel."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)


class _Process:
    """One process at a time, for one task at a time; a new one takes the place of one that is older than ``LIFE``."""

    def __init__(self) -> None:
        self._pool, self._born = process_pool(1), time.monotonic()

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def submit(self, function: Callable[[*Args], T], *args: *Args) -> Future[T]:
        """Begin a task; the one before is finished."""
        if time.monotonic() - self._born > 60 * LIFE:
            self._pool.shutdown()
            self._pool, self._born = process_pool(1), time.monotonic()
        return self._pool.submit(function, *args)
