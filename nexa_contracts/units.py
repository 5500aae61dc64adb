"""Quantities people write with their unit (`30m`, `4GiB`), and the way back to text."""

from __future__ import annotations

import re

_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(d|h|m|s)")
_SECONDS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([KMGTP]i?B|B)")
_POWERS = "KMGTP"
_LONGEST_S = 100 * 366 * 86_400.0
_LARGEST_BYTES = 2**63 - 1
DURATION_RULE = "a duration such as 45s, 30m, 2h30m or 1d"
SIZE_RULE = "a size such as 512MiB or 4GiB"


def parse_duration_s(text: str) -> float:
    """Return the seconds in a text such as `2h30m`.

    Raises:
        ValueError: the text is not a duration, is zero, or is longer than a hundred years.
    """
    parts = list(_DURATION_PART.finditer(text))
    if not parts or "".join(part.group(0) for part in parts) != text:
        raise ValueError(f"found {_shorten(text)!r}; allowed: {DURATION_RULE}")
    seconds = sum(float(part.group(1)) * _SECONDS[part.group(2)] for part in parts)
    if not 0 < seconds <= _LONGEST_S:
        raise ValueError(f"found {_shorten(text)!r}; allowed: {DURATION_RULE}, longer than zero, at most 100 years")
    return seconds


def parse_size_bytes(text: str) -> int:
    """Return the bytes in a text such as `4GiB` (1024-based) or `4GB` (1000-based).

    Raises:
        ValueError: the text is not a size, is zero, or is more than any file system holds.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"found {_shorten(text)!r}; allowed: {SIZE_RULE}")
    number, unit = float(match.group(1)), match.group(2)
    base = 1024 if "i" in unit else 1000
    size = number * (1 if unit == "B" else base ** (_POWERS.index(unit[0]) + 1))
    if not 1 <= size < _LARGEST_BYTES:  # also infinity, which int() does not take
        raise ValueError(f"found {_shorten(text)!r}; allowed: {SIZE_RULE}, from 1B to 8 EiB")
    return int(size)


def format_count(number: int, noun: str) -> str:
    """Return a number with its noun, as `1 run` and `2 runs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_duration(seconds: float | None) -> str:
    """Return a duration for people: `3m 20s`; `-` when it is unknown."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f}s" if seconds < 10 else f"{whole}s"
    if whole < 3_600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3_600}h {whole % 3_600 // 60:02d}m"


def format_size(size_bytes: float | None) -> str:
    """Return a size for people in 1024-based units: `1.5 GiB`; `-` when it is unknown."""
    if size_bytes is None:
        return "-"
    value = float(size_bytes)
    if value < 1024:
        return f"{int(value)} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} PiB"


def format_usd(amount: float | None) -> str:
    """Return an amount of money for people; `unknown` when there is no price for it, and never zero for a little."""
    if amount is None:
        return "unknown"
    if 0 < amount < 0.0001:
        return "<0.0001 USD"
    return f"{amount:.2f} USD" if amount >= 1 else f"{amount:.4f} USD"


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
