"""Which of many runs have a record of some kind: one listing of the manifests folder instead of a question for each."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path

from nexa_infra.storage.layout import Project

_FEW = 200
"""So many questions are cheaper than listing a folder that may hold 300,000 names."""
_ANY = "run_x"


def find_ended(project: Project, run_ids: Collection[str]) -> frozenset[str]:
    """Return those of these runs that have an outcome."""
    return _find(project.outcome, run_ids)


def find_costed(project: Project, run_ids: Collection[str]) -> frozenset[str]:
    """Return those of these runs that have a cost manifest."""
    return _find(project.cost, run_ids)


def _find(locate: Callable[[str], Path], run_ids: Collection[str]) -> frozenset[str]:
    if len(run_ids) <= _FEW:
        return frozenset(run_id for run_id in run_ids if locate(run_id).exists())
    example = locate(_ANY)
    before, _, after = example.name.partition(_ANY)
    try:
        names = set(os.listdir(example.parent))  # noqa: PTH208 - names are all that is wanted of 300,000 files
    except FileNotFoundError:
        return frozenset()
    return frozenset(run_id for run_id in run_ids if f"{before}{run_id}{after}" in names)
