"""Arguments that name a run or a sweep, with the completion a shell asks for."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

_OFFERED = 30


class Named(click.ParamType[str]):
    """The id of a run or a sweep, its beginning, or `last`; a shell is offered the newest that fit."""

    def __init__(self, *kinds: str) -> None:
        """Offer ids of these kinds, `run` and `sweep`."""
        self.name = "|".join(kinds)
        self._kinds = kinds

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Return the newest ids with that beginning."""
        from nexa_contracts.errors import NexaError
        from nexa_infra.operations.context import open_project
        from nexa_infra.storage.index import open_index

        try:
            with open_index(open_project()) as index:
                ids = [row.run_id for row in index.find_runs(limit=1000)] if "run" in self._kinds else []
                ids += [row.sweep_id for row in index.find_sweeps(limit=1000)] if "sweep" in self._kinds else []
        except NexaError:
            return []  # a shell has no place for a message
        found = [text for text in ["last", *ids] if text.startswith(incomplete)]
        return [CompletionItem(text) for text in found[:_OFFERED]]


RUN = Named("run")
SWEEP = Named("sweep")
RUN_OR_SWEEP = Named("run", "sweep")
