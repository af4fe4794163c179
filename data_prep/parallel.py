"""One function over many files, in a few processes, under a progress bar."""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from tqdm import tqdm

Job = TypeVar("Job")
Result = TypeVar("Result")
WORTH_A_PROCESS = 32  # with fewer jobs, starting processes takes longer than they save


def parallel(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int, title: str
) -> list[Result]:
    """`[function(job) for job in jobs]` by `workers` processes; few jobs, or `workers` < 2, by this one."""
    if workers < 2 or len(jobs) < WORTH_A_PROCESS:
        return [function(job) for job in tqdm(jobs, desc=title, disable=not jobs)]
    chunk = max(1, min(64, len(jobs) // (8 * workers)))
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(tqdm(pool.map(function, jobs, chunksize=chunk), total=len(jobs), desc=title))
