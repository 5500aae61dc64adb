from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_contracts.errors import ConfigError
from nexa_contracts.ids import NAME, check_name, create_stamp, is_run_id, is_sweep_id, run_id, sweep_id

TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2999, 1, 1), timezones=st.just(UTC))


@given(first=TIMES, second=TIMES)
def test_ids_of_different_seconds_sort_by_time(first: datetime, second: datetime) -> None:
    first, second = sorted((first.replace(microsecond=0), second.replace(microsecond=0)))
    if first < second:
        assert run_id(create_stamp(first)) < run_id(create_stamp(second))


@given(now=TIMES, hours=st.integers(-12, 12))
def test_an_id_is_in_utc_wherever_it_is_made(now: datetime, hours: int) -> None:
    elsewhere = now.astimezone(timezone(timedelta(hours=hours)))
    assert create_stamp(elsewhere, entropy="k3f9") == create_stamp(now, entropy="k3f9")


@given(now=TIMES, count=st.integers(1, 10_000_000), data=st.data())
def test_every_id_is_safe_as_a_path_and_a_label(now: datetime, count: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, count - 1))
    stamp = create_stamp(now)
    run, sweep = run_id(stamp, index=index, count=count), sweep_id(stamp)
    assert NAME.fullmatch(run)
    assert NAME.fullmatch(sweep)
    assert is_run_id(run)
    assert not is_sweep_id(run)
    assert is_sweep_id(sweep)
    assert not is_run_id(sweep)


@given(count=st.integers(2, 5000))
def test_members_of_a_sweep_sort_by_index(count: int) -> None:
    stamp = "20260102_030405_k3f9"
    ids = [run_id(stamp, index=index, count=count) for index in range(count)]
    assert ids == sorted(set(ids))


def test_ids_of_one_second_differ() -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert len({create_stamp(now) for _ in range(20)}) == 20


@pytest.mark.parametrize(
    "text", ["run_20260102_030405_k3f9\n", "run_20260102_030405_K3F9", "run_20260102_030405", "run_../x", ""]
)
def test_what_only_resembles_a_run_id_is_none(text: str) -> None:
    assert not is_run_id(text)


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "../x", "a/b", "a\nb", "a\n", 'a"b', "a'b", "a b", "a\0", "😀", "é", "-a", "a-", "$HOME", "x" * 64],
)
def test_an_unsafe_name_is_refused_by_name_and_rule(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_name(text, what="name")
    assert str(caught.value) == (
        f"name: found {text!r}; allowed: 1 to 63 of A-Z a-z 0-9 . _ - beginning and ending with a letter or digit"
    )


@given(st.from_regex(NAME, fullmatch=True))
def test_a_safe_name_is_returned_unchanged(text: str) -> None:
    assert check_name(text, what="name") == text
    assert text not in (".", "..")
    assert "/" not in text
