"""A sweep's rows as job arrays that a cluster takes: no task id beyond MaxArraySize, many rows to a task if wanted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

MAX_ARRAY_TEXT = 60_000
"""Characters of one `--array=`; Linux takes 131,071 for one argument of a program."""


@dataclass(frozen=True, slots=True)
class Window:
    """One job array. Its task t takes every row i with `i // rows_per_task == offset + t`."""

    number: int
    """From 0, in the order of the rows."""
    offset: int
    array: str
    """What `--array=` gets: `0-99,104%8`."""
    rows: int
    """Rows of all its tasks together."""


def plan_windows(
    indices: Iterable[int],
    *,
    max_array_size: int,
    rows_per_task: int = 1,
    max_parallel: int | None = None,
    max_tasks: int | None = None,
) -> tuple[Window, ...]:
    """Return arrays that hold every row once, in rising order; rows that are not asked for leave gaps.

    A throttle holds within an array only: where there are several, `max_parallel` in all needs each one to wait for
    the one before it.

    Raises:
        ValueError: a row is negative, or a limit leaves no room for one task.
    Source: https://slurm.schedmd.com/slurm.conf.html (MaxArraySize is one more than the largest task id).
    """
    limits = (max_array_size, rows_per_task, max_parallel, max_tasks)
    if any(limit is not None and limit < 1 for limit in limits):
        raise ValueError(f"limits of an array must be at least 1, found {limits}")
    rows_of: dict[int, int] = {}
    for index in sorted(set(indices)):
        if index < 0:
            raise ValueError(f"row {index}: rows are counted from 0")
        rows_of[index // rows_per_task] = rows_of.get(index // rows_per_task, 0) + 1
    windows: list[Window] = []
    for groups in _cut(list(rows_of), size=max_array_size, most=max_tasks or max_array_size):
        offset = groups[0]
        array = ",".join(render_ranges([group - offset for group in groups]))
        throttle = "" if max_parallel is None else f"%{max_parallel}"
        rows = sum(rows_of[group] for group in groups)
        windows.append(Window(len(windows), offset, f"{array}{throttle}", rows))
    return tuple(windows)


def render_ranges(numbers: Sequence[int]) -> Iterator[str]:
    """Yield rising numbers as ranges: `0-99`, `104`."""
    first = last = None
    for number in numbers:
        if first is None or last is None:
            first = last = number
        elif number == last + 1:
            last = number
        else:
            yield _range(first, last)
            first = last = number
    if first is not None and last is not None:
        yield _range(first, last)


def parse_array(text: str) -> tuple[int, ...]:
    """Return the task ids of an array's text such as `0-99,104,110-120:5%8`, rising.

    Raises:
        ValueError: it is no such text, for instance because squeue cut it off.
    """
    ids: set[int] = set()
    for part in text.partition("%")[0].split(","):
        span, _, step = part.partition(":")
        first, _, last = span.partition("-")
        ids.update(range(int(first), int(last or first) + 1, int(step or 1)))
    return tuple(sorted(ids))


def _cut(groups: Sequence[int], *, size: int, most: int) -> Iterator[Sequence[int]]:
    per_range = 2 * len(str(size)) + 2  # first, last, dash and comma
    start, length = 0, 0
    for place, group in enumerate(groups):
        length += 0 if place and group == groups[place - 1] + 1 else per_range
        if group - groups[start] >= size or place - start >= most or length > MAX_ARRAY_TEXT:
            yield groups[start:place]
            start, length = place, per_range
    if groups:
        yield groups[start:]


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
