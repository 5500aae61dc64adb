"""The runs that have ended, as sums of money need them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nexa_infra.monitoring.costs import CostedRun
from nexa_infra.storage.index import open_index
from nexa_infra.storage.layout import Project
from nexa_infra.storage.where import Condition, parse_where


def list_costed_runs(project: Project, conditions: Sequence[str] = ()) -> Iterator[CostedRun]:
    """Yield every run that has ended and meets the conditions (as `nexa runs --where`).

    Raises:
        ConfigError: a condition is not one.
    """
    where = [Condition("state", "!=", "none"), *(parse_where(text) for text in conditions)]
    with open_index(project) as index:
        rows = index.find_runs(where)
    for row in rows:
        yield CostedRun(
            run_id=row.run_id,
            name=row.name,
            created_at=row.created_at,
            sweep_id=row.sweep_id,
            gpu_type=row.gpu_type,
            gpus=row.gpus,
            tags=row.tags,
            hours=(row.seconds or 0.0) / 3600,
            total=row.total_usd,
        )
