"""A fake cluster for the tests of this folder."""

from __future__ import annotations

from tests.scheduling.slurm.fake_site import site

__all__ = ["site"]
