"""What comes next is made ready on other threads: XLA compiles on one core and lets Python go on meanwhile."""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def in_turn(jobs: Sequence[Callable[[], T]], ahead: int) -> Generator[T]:
    """Results of jobs in their order; while one is in use, those after it are made.

    >>> list(in_turn([lambda: 1, lambda: 2, lambda: 3], ahead=2))
    [1, 2, 3]

    Args:
        jobs: called each once, in this order, and not before one of the ``ahead`` before it is taken.
        ahead: how many are begun before they are asked for, each on a thread of its own; 0: none, nor any thread.

    Yields:
        Each job's result.

    Raises:
        BaseException: what the job raised, when it is its turn.

    """
    if not ahead:
        yield from (job() for job in jobs)
        return
    left = iter(jobs)
    pool = ThreadPoolExecutor(ahead, "ahead")
    try:
        begun = deque(pool.submit(job) for job in islice(left, ahead))
        while begun:
            found = begun.popleft().result()
            begun.extend(pool.submit(job) for job in islice(left, 1))
            yield found
    finally:  # nobody waits for what is not wanted any more
        pool.shutdown(wait=False, cancel_futures=True)
