"""A training looks at its fence before it writes, also when it slept in the middle of a step."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from nexa_contracts.clock import SystemClock
from nexa_infra.scheduling.fence import start_attempt
from nexa_infra.storage.fence import Fenced
from nexa_infra.testing.clock import FakeClock
from nexa_train.callbacks.fence import INTERVAL_S, FenceCallback
from tests.train.test_zombie import fenced
from tests.train.training_site import Site

STATE = SimpleNamespace(is_world_process_zero=True)
GOES_ON, SAVES = SimpleNamespace(should_save=False), SimpleNamespace(should_save=True)


def test_after_a_sleep_it_looks_before_a_line_is_written(site: Site) -> None:
    clock = FakeClock()
    job = fenced(site.job(), 1)
    callback = FenceCallback(job, clock=clock)
    callback.on_train_begin(None, STATE, None)
    callback.on_step_end(None, STATE, GOES_ON)
    assert start_attempt(job.run_dir, 2, restarts=1, clock=SystemClock()) is not None
    callback.on_step_end(None, STATE, GOES_ON)
    callback.on_log(None, STATE, GOES_ON)
    clock.advance(INTERVAL_S)
    with pytest.raises(Fenced, match="attempt 2 has the run now"):
        callback.on_log(None, STATE, GOES_ON)


def test_it_looks_before_every_checkpoint(site: Site) -> None:
    job = fenced(site.job(), 1)
    callback = FenceCallback(job, clock=FakeClock())
    callback.on_train_begin(None, STATE, None)
    assert start_attempt(job.run_dir, 2, restarts=1, clock=SystemClock()) is not None
    with pytest.raises(Fenced):
        callback.on_step_end(None, STATE, SAVES)
