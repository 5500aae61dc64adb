"""Arguments with the completion a shell asks for: those that name a run or a sweep, and those of a closed list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

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


class Offered(click.ParamType[str]):
    """A text of which a shell is offered the words that fit; nothing else is refused here."""

    name = "text"

    def __init__(self, list_words: Callable[[], Iterable[str]]) -> None:
        """Offer the words of a list that is made when it is asked for."""
        self._list_words = list_words

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Return the words with that beginning."""
        return [CompletionItem(word) for word in self._list_words() if word.startswith(incomplete)]


def _list_config_keys() -> Iterator[str]:
    from nexa_contracts.run import RunConfig

    schema = RunConfig.model_json_schema()
    yield from _list_keys(schema, schema["$defs"], prefix="")


def _list_sweep_keys() -> Iterator[str]:
    yield from ("trials=", "seed=", "max_parallel=", "search=", "name=")
    yield from _list_config_keys()


def _list_keys(part: dict[str, Any], parts: dict[str, Any], *, prefix: str) -> Iterator[str]:
    for name, field in part.get("properties", {}).items():
        inner = [parts[way["$ref"].rsplit("/", 1)[-1]] for way in (field, *field.get("anyOf", ())) if "$ref" in way]
        structures = [each for each in inner if "properties" in each]
        for each in structures:
            yield from _list_keys(each, parts, prefix=f"{prefix}{name}.")
        if not structures:
            yield f"{prefix}{name}="


def _list_fields() -> Iterator[str]:
    from nexa_infra.storage.where import FIELDS, PREFIXES

    yield from FIELDS
    yield from PREFIXES


RUN = Named("run")
SWEEP = Named("sweep")
RUN_OR_SWEEP = Named("run", "sweep")
CONFIG_KEY = Offered(_list_config_keys)
SWEEP_KEY = Offered(_list_sweep_keys)
FIELD = Offered(_list_fields)
GROUP = Offered(lambda: ("sweep", "month", "gpu", "name", "run", "tag", "tag:"))
