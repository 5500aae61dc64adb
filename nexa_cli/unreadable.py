"""What a list could not read, said once and short."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nexa_cli.output import note
from nexa_contracts.units import format_count
from nexa_infra.storage.index import open_index

if TYPE_CHECKING:
    from nexa_infra.storage.layout import Project

_SHOWN = 5


def warn_of_unreadable(project: Project) -> None:
    """Say on stderr which manifests of a project cannot be read, the first ones by name, and what to do."""
    with open_index(project) as index:
        problems = index.problems
    print_unreadable(problems)


def print_unreadable(problems: Sequence[str]) -> None:
    """Say the same of an index's problems; nothing when there are none."""
    if not problems:
        return
    count = format_count(len(problems), "manifest")
    note(f"warning: {count} cannot be read, and so left out; restore from git, or from manifests/ on durable:")
    for problem in problems[:_SHOWN]:
        note(f"  {problem}")
    if len(problems) > _SHOWN:
        note(f"  … and {len(problems) - _SHOWN} more")
