"""What every search over a sweep's axes promises."""

# ruff: noqa: S101 - contract tests assert, wherever they live

from __future__ import annotations

from abc import ABC, abstractmethod

from nexa_infra.scheduling.sweep import Search


class SearchContract(ABC):
    """What every Search promises; a test class inherits it and says which search, over which keys."""

    KEYS: frozenset[str]

    @abstractmethod
    def make_search(self) -> Search:
        """Return a new search over KEYS with at least three points, the same at every call."""

    def test_a_point_has_a_value_for_every_axis(self) -> None:
        """A run with an axis left out would silently train the base config."""
        assert frozenset(self.make_search().ask(0)) == self.KEYS

    def test_the_same_answers_lead_to_the_same_points(self) -> None:
        """A sweep must be repeatable from what was recorded of it."""
        one, other = self.make_search(), self.make_search()
        for index, value in enumerate((0.5, 0.25, float("nan"))):
            assert one.ask(index) == other.ask(index)
            one.tell(index, value)
            other.tell(index, value)
