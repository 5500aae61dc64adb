"""Windows of a sweep: every row exactly once, and no task id that the cluster refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_infra.scheduling.slurm import windows
from nexa_infra.scheduling.slurm.windows import Window, parse_array, plan_windows, render_ranges

ROWS = st.sets(st.integers(0, 3_000), max_size=200)
SIZES = st.integers(1, 1_001)


def rows_of(window: Window, indices: set[int], rows_per_task: int) -> list[int]:
    tasks = {window.offset + task for task in parse_array(window.array)}
    return sorted(index for index in indices if index // rows_per_task in tasks)


@given(indices=ROWS, size=SIZES, per_task=st.integers(1, 50), most=st.none() | st.integers(1, 60))
def test_every_row_is_in_one_task_and_no_task_is_out_of_bounds(
    indices: set[int], size: int, per_task: int, most: int | None
) -> None:
    plan = plan_windows(indices, max_array_size=size, rows_per_task=per_task, max_tasks=most)
    assert sorted(row for window in plan for row in rows_of(window, indices, per_task)) == sorted(indices)
    for window in plan:
        tasks = parse_array(window.array)
        assert tasks[0] == 0
        assert tasks[-1] < size
        assert len(tasks) <= (most or size)
        assert window.rows == len(rows_of(window, indices, per_task))
    assert [window.number for window in plan] == list(range(len(plan)))


@given(indices=ROWS, size=SIZES)
def test_a_plan_is_the_same_at_every_call(indices: set[int], size: int) -> None:
    assert plan_windows(indices, max_array_size=size) == plan_windows(sorted(indices), max_array_size=size)


@given(numbers=st.sets(st.integers(0, 500)))
def test_ranges_read_back_are_the_numbers(numbers: set[int]) -> None:
    rising = sorted(numbers)
    text = ",".join(render_ranges(rising))
    assert (parse_array(text) if text else ()) == tuple(rising)


def test_ten_thousand_rows_fit_on_a_default_slurm() -> None:
    plan = plan_windows(range(10_000), max_array_size=1001, max_parallel=8)
    assert [window.array for window in plan[:2]] == ["0-1000%8", "0-1000%8"]
    assert [window.offset for window in plan] == list(range(0, 10_000, 1001))
    assert sum(window.rows for window in plan) == 10_000


def test_packed_rows_need_fewer_tasks() -> None:
    (window,) = plan_windows(range(10_000), max_array_size=1001, rows_per_task=10)
    assert window == Window(number=0, offset=0, array="0-999", rows=10_000)


def test_gaps_are_kept_and_rows_keep_their_numbers() -> None:
    plan = plan_windows([5, 6, 7, 40, 2_000], max_array_size=1001, max_parallel=3)
    assert plan == (Window(0, 5, "0-2,35%3", 4), Window(1, 2_000, "0%3", 1))


def test_no_rows_make_no_window() -> None:
    assert plan_windows([], max_array_size=1001) == ()


def test_a_text_too_long_for_one_argument_is_cut() -> None:
    plan = plan_windows(range(0, 200_000, 2), max_array_size=4_000_001)
    assert len(plan) > 1
    assert max(len(window.array) for window in plan) <= windows.MAX_ARRAY_TEXT
    assert sum(window.rows for window in plan) == 100_000


@pytest.mark.parametrize("limits", [{"max_array_size": 0}, {"max_array_size": 9, "rows_per_task": 0}])
def test_limits_that_leave_no_room_are_named(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        plan_windows([1], **limits)
    with pytest.raises(ValueError, match="row -1"):
        plan_windows([-1], max_array_size=9)


def test_texts_of_slurm_are_read() -> None:
    assert parse_array("2,5,9-12%2") == (2, 5, 9, 10, 11, 12)
    assert parse_array("0-10:5") == (0, 5, 10)
    with pytest.raises(ValueError, match="invalid literal"):
        parse_array("1,2,3...%1")
