"""Every second of a run is in one bucket, whatever its records and events say."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_infra.monitoring.goodput import AttemptSpan, Goodput, account_time
from nexa_infra.monitoring.run_events import (
    BEGIN,
    END,
    SAVE,
    START,
    STEPS,
    Bucket,
    Event,
    parse_events,
    render_event,
)

T0 = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SPENT = st.dictionaries(st.sampled_from(list(Bucket)), st.floats(0, 1e6), max_size=4)
EVENTS = st.lists(
    st.builds(
        Event,
        attempt=st.integers(1, 5),
        name=st.sampled_from([START, BEGIN, STEPS, SAVE, END]),
        time=st.integers(-100_000, 100_000).map(lambda s: T0 + timedelta(seconds=s)),
        step=st.none() | st.integers(0, 10_000),
        seconds=SPENT,
    ),
    max_size=30,
)
LENGTHS = st.lists(
    st.tuples(st.floats(0, 1e5), st.floats(0, 1e6), st.none() | st.integers(0, 10_000)), min_size=1, max_size=5
)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def attempt(number: int, start_s: float, end_s: float, step: int | None = None) -> AttemptSpan:
    return AttemptSpan(number, at(start_s), at(end_s), end_s - start_s, step)


def event(number: int, name: str, time_s: float, step: int | None = None, **seconds: float) -> Event:
    return Event(number, name, at(time_s), step, {Bucket(name): value for name, value in seconds.items()})


def rounded(goodput: Goodput) -> dict[str, float]:
    return {bucket.value: round(value, 6) for bucket, value in goodput.seconds.items() if value > 1e-9}


def lay_out(lengths: list[tuple[float, float, int | None]]) -> tuple[list[AttemptSpan], float]:
    spans, now = [], 0.0
    for number, (gap, length, step) in enumerate(lengths, start=1):
        spans.append(attempt(number, now + gap, now + gap + length, step))
        now += gap + length
    return spans, now


@given(LENGTHS, EVENTS, st.randoms(use_true_random=False))
def test_the_buckets_add_up_to_the_wall_time_whatever_the_events_say(
    lengths: list[tuple[float, float, int | None]], events: list[Event], order: random.Random
) -> None:
    spans, end_s = lay_out(lengths)
    events = [each for each in events if each.attempt <= len(spans)]
    goodput = account_time(spans, events, submitted_at=T0, ended_at=at(end_s))
    assert goodput.wall_s == pytest.approx(end_s, rel=1e-6, abs=1e-3)
    assert all(seconds >= 0 for seconds in goodput.seconds.values())
    assert goodput.share is None or 0 <= goodput.share <= 1 + 1e-9
    shuffled = order.sample(spans, len(spans))
    assert account_time(shuffled, events, submitted_at=T0, ended_at=at(end_s)) == goodput


@given(
    st.lists(st.tuples(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6), st.floats(0, 1e6)), max_size=5),
    EVENTS,
    st.integers(-(10**6), 10**6),
)
def test_a_clock_that_jumps_makes_no_bucket_negative_and_loses_no_measured_second(
    times: list[tuple[int, int, float]], events: list[Event], end_s: int
) -> None:
    spans = [AttemptSpan(number, at(a), at(b), s) for number, (a, b, s) in enumerate(times, start=1)]
    goodput = account_time(spans, events, submitted_at=T0, ended_at=at(end_s))
    assert all(seconds >= 0 for seconds in goodput.seconds.values())
    assert goodput.wall_s >= sum(span.seconds for span in spans) * (1 - 1e-9) - 1e-6


def test_an_undisturbed_run_is_split_as_it_was_measured() -> None:
    events = [
        event(1, START, 13.0),
        event(1, BEGIN, 18.0, 0, startup=5.0),
        event(1, STEPS, 48.0, 30, compute=28.0, data=2.0),
        event(1, SAVE, 53.0, 30, save=4.0, compute=1.0),
        event(1, END, 55.0, 30, other=2.0),
    ]
    goodput = account_time([attempt(1, 10.0, 56.0, 30)], events, submitted_at=T0, ended_at=at(56.5))
    assert rounded(goodput) == {
        "waiting": 10.0, "startup": 8.0, "data": 2.0, "compute": 29.0, "save": 4.0, "other": 3.5,
    }  # fmt: skip
    assert goodput.share == pytest.approx(29 / 56.5)
    assert (goodput.saves, goodput.save_s, goodput.steps_made, goodput.step_s) == (1, 4.0, 30, 31 / 30)
    assert goodput.restart_s is None


def test_steps_that_were_lost_with_a_killed_attempt_are_redone_whether_they_were_told_or_not() -> None:
    # Saved at 100, told up to 120, known to have reached 130; the next attempt goes on from 100.
    events = [
        event(1, START, 0.0),
        event(1, BEGIN, 0.0, 0),
        event(1, SAVE, 100.0, 100, compute=100.0),
        event(1, STEPS, 120.0, 120, compute=20.0),
        event(2, START, 150.0),
        event(2, BEGIN, 155.0, 100, restore=5.0),
        event(2, SAVE, 255.0, 200, compute=100.0),
        event(2, END, 255.0, 200),
    ]
    spans = [attempt(1, 0.0, 131.0, 130), attempt(2, 145.0, 255.0, 200)]
    goodput = account_time(spans, events, submitted_at=T0, ended_at=at(255.0))
    # 10 untold of the first attempt, 20 of the second; one more second was nobody's.
    assert rounded(goodput) == {
        "compute": 200.0, "redone": 30.0, "other": 1.0, "waiting": 14.0, "startup": 5.0, "restore": 5.0,
    }  # fmt: skip
    assert (goodput.restarts, goodput.restart_s) == (1, 24.0)


def test_an_attempt_that_died_while_it_started_is_start_up() -> None:
    goodput = account_time([attempt(1, 0.0, 30.0)], [event(1, START, 10.0)], submitted_at=T0, ended_at=at(30.0))
    assert rounded(goodput) == {"startup": 30.0}


def test_a_hang_is_no_work() -> None:
    events = [event(1, START, 0.0), event(1, BEGIN, 0.0, 0), event(1, STEPS, 10.0, 10, compute=10.0)]
    goodput = account_time([attempt(1, 0.0, 610.0, 10)], events, submitted_at=T0, ended_at=at(610.0))
    assert rounded(goodput) == {"compute": 10.0, "other": 600.0}


def test_processes_that_torchrun_started_again_within_an_attempt_redo_what_they_redo() -> None:
    events = [
        event(1, START, 0.0),
        event(1, BEGIN, 0.0, 0),
        event(1, SAVE, 50.0, 50, compute=50.0),
        event(1, STEPS, 60.0, 60, compute=10.0),
        event(1, START, 70.0),
        event(1, BEGIN, 75.0, 50, restore=5.0),
        event(1, STEPS, 95.0, 70, compute=20.0),
    ]
    goodput = account_time([attempt(1, 0.0, 95.0, 70)], events, submitted_at=T0)
    assert rounded(goodput) == {"compute": 70.0, "redone": 10.0, "startup": 10.0, "restore": 5.0}


def test_a_run_without_events_has_an_unknown_goodput_not_zero() -> None:
    goodput = account_time([attempt(1, 5.0, 30.0)], [], submitted_at=T0, ended_at=at(30.0))
    assert goodput.share is None
    assert rounded(goodput) == {"waiting": 5.0, "other": 25.0}


def test_a_run_that_was_never_started_only_waited() -> None:
    assert rounded(account_time([], [], submitted_at=T0, ended_at=at(60.0))) == {"waiting": 60.0}


def test_an_attempt_that_goes_on_counts_up_to_its_last_event() -> None:
    events = [event(1, START, 5.0), event(1, BEGIN, 8.0, 0, startup=3.0), event(1, STEPS, 18.0, 5, compute=10.0)]
    assert rounded(account_time([], events, submitted_at=T0)) == {"waiting": 5.0, "startup": 3.0, "compute": 10.0}


@given(EVENTS)
def test_an_event_that_was_written_is_read_again(events: list[Event]) -> None:
    read = list(parse_events(json.loads(render_event(each)) for each in events))
    assert len(read) == len(events)
    for before, after in zip(events, read, strict=True):
        assert (after.attempt, after.name, after.time, after.step) == (
            before.attempt,
            before.name,
            before.time,
            before.step,
        )
        kept = {bucket: seconds for bucket, seconds in before.seconds.items() if seconds > 0}
        assert after.seconds == pytest.approx(kept, abs=1e-6)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "time": JSON | st.just(T0.isoformat()),
            "attempt": JSON,
            "event": JSON | st.just(STEPS),
            "step": JSON,
            "seconds": JSON | st.dictionaries(st.just("compute"), JSON, max_size=1),
        },
    )
)
def test_a_damaged_line_is_left_out_and_nothing_else(record: dict[str, object]) -> None:
    whole = json.loads(render_event(event(1, STEPS, 0.0, 3, compute=1.0)))
    assert list(parse_events([record, whole]))[-1].step == 3
