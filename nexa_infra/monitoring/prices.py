"""The price table: a dated list price of a named provider for each GPU type and for a CPU core."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

from nexa_contracts.cost import Rate
from nexa_contracts.errors import ConfigError
from nexa_contracts.site import SiteConfig

CPU = "cpu"
_TABLE = "prices.json"
_UNITS = {"core_hour": "core_hour", "gpu_hour": "gpu_hour"}


@dataclass(frozen=True, slots=True)
class Price:
    """One row of the table: USD for one hour of one unit, and where it was read."""

    gpu_type: str
    aliases: tuple[str, ...]
    unit: str
    hourly_usd: float
    provider: str
    source: str
    as_of: str
    """Date of the source, YYYY-MM-DD."""
    note: str = ""


@cache
def load_prices() -> tuple[Price, ...]:
    """Return the table that comes with this version.

    Raises:
        ConfigError: the table is not what it should be.
    """
    try:
        data = json.loads(resources.files("nexa_infra.monitoring").joinpath(_TABLE).read_bytes())
        return tuple(
            Price(
                gpu_type=entry["gpu_type"],
                aliases=tuple(entry.get("aliases", ())),
                unit=_UNITS[entry.get("unit", "gpu_hour")],
                hourly_usd=float(entry["hourly_usd"]),
                provider=entry["provider"],
                source=entry["source"],
                as_of=entry["as_of"],
                note=entry.get("note", ""),
            )
            for entry in data["entries"]
        )
    except (KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"{_TABLE}: not a price table: {error!r}") from error


def find_rate(gpu_type: str | None, *, gpus: int, site: SiteConfig) -> Rate:
    """Return the price of one unit of what a run uses: a GPU of that type, or without GPUs a core.

    The site's own price goes before the table; what neither lists has no price, which is not a price of zero.
    """
    wanted = CPU if gpus == 0 else gpu_type
    unit = "core_hour" if gpus == 0 else "gpu_hour"
    if wanted is None:
        return Rate(resource="a GPU of unnamed type", unit=unit, hourly=None)
    row = find_price(wanted)
    names = {_fold(wanted)} if row is None else {_fold(wanted), *(_fold(name) for name in (row.gpu_type, *row.aliases))}
    for name, price in site.prices.items():
        if _fold(name) in names:
            return Rate(resource=wanted, unit=unit, hourly=price.hourly, source=price.source, as_of=price.as_of)
    if row is None or row.unit != unit:
        return Rate(resource=wanted, unit=unit, hourly=None)
    return Rate(resource=row.gpu_type, unit=unit, hourly=row.hourly_usd, source=row.provider, as_of=row.as_of)


def find_price(name: str) -> Price | None:
    """Return the row of a GPU type or one of its aliases (what a driver prints included); case does not matter."""
    wanted = _fold(name)
    for row in load_prices():
        if wanted in {_fold(alias) for alias in (row.gpu_type, *row.aliases)}:
            return row
    return None


def suggest_type(name: str) -> str | None:
    """Return the listed GPU type whose name is nearest; None when none is near."""
    close = difflib.get_close_matches(name, [row.gpu_type for row in load_prices()], n=1, cutoff=0.6)
    return close[0] if close else None


def _fold(name: str) -> str:
    return "".join(name.lower().replace("nvidia", "").replace("-", " ").replace("_", " ").split())
