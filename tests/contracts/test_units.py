from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_contracts.units import format_duration, format_size, format_usd, parse_duration_s, parse_size_bytes


@given(days=st.integers(0, 99), hours=st.integers(0, 99), minutes=st.integers(0, 99), seconds=st.integers(1, 99))
def test_a_duration_is_the_sum_of_its_parts(days: int, hours: int, minutes: int, seconds: int) -> None:
    expected = days * 86_400 + hours * 3_600 + minutes * 60 + seconds
    assert parse_duration_s(f"{days}d{hours}h{minutes}m{seconds}s") == expected


@given(number=st.integers(1, 999), power=st.integers(0, 4))
def test_binary_and_decimal_sizes_differ_by_their_base(number: int, power: int) -> None:
    letter = "KMGTP"[power]
    assert parse_size_bytes(f"{number}{letter}iB") == number * 1024 ** (power + 1)
    assert parse_size_bytes(f"{number} {letter}B") == number * 1000 ** (power + 1)


@given(st.text(max_size=20))
def test_any_text_is_a_quantity_or_a_value_error(text: str) -> None:
    for parse in (parse_duration_s, parse_size_bytes):
        with suppress(ValueError):
            assert 0 < parse(text) < 2**63


@given(st.integers(1, 2**50))
def test_a_formatted_size_reads_back_within_its_rounding(size_bytes: int) -> None:
    assert parse_size_bytes(format_size(size_bytes)) == pytest.approx(size_bytes, rel=0.06)


@pytest.mark.parametrize("text", ["", "90", "0s", "1h 30m", "1h\n", "-1h", "1e3s", ".5h", "٣h", "9" * 400 + "d", "1w"])
def test_what_is_not_a_duration_is_refused_in_one_short_line(text: str) -> None:
    with pytest.raises(ValueError, match="allowed: a duration such as") as caught:
        parse_duration_s(text)
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "4", "4gib", "0GiB", "0B", "4\nGiB", "-1GiB", "٤GiB", "9" * 400 + "GiB", "9EiB"])
def test_what_is_not_a_size_is_refused_in_one_short_line(text: str) -> None:
    with pytest.raises(ValueError, match="allowed: a size such as") as caught:
        parse_size_bytes(text)
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


def test_unknown_quantities_are_not_shown_as_zero() -> None:
    assert (format_duration(None), format_size(None), format_usd(None)) == ("-", "-", "unknown")
    assert format_usd(0.0) == "0.0000 USD"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0.0s"),
        (9.94, "9.9s"),
        (42.4, "42s"),
        (59.7, "1m 00s"),
        (200, "3m 20s"),
        (3599.6, "1h 00m"),
        (90_000, "25h 00m"),
    ],
)
def test_durations_round_without_an_impossible_sixty(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 * 2**29, "1.5 GiB"), (2**50, "1.0 PiB")],
)
def test_sizes_are_shown_in_binary_units(size_bytes: int, shown: str) -> None:
    assert format_size(size_bytes) == shown
