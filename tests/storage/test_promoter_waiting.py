"""Checkpoints that durable did not take when they were saved: they outlive the rotation, and are kept after all."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import IO, Any, Self

import pytest

from nexa_infra.storage.layout import TIER_MARKER, Tiers
from nexa_infra.storage.promoter import Inbox, serve
from nexa_infra.storage.promoter_messages import PromoterRequest, parse_answer, render_line
from nexa_infra.storage.seal import verify_seal
from tests.storage.artifacts_made import CLOCK, RUN_ID, label, make_tiers, save_checkpoint

KEEP_LAST = 2


class Asked:
    """A promoter that is asked step by step; each answer is waited for. It ends where its `with` does."""

    def __init__(self, tiers: Tiers) -> None:
        self.tiers = tiers
        reader, requests = os.pipe()
        answers, writer = os.pipe()
        self._requests = requests
        self._ends: list[IO[Any]] = [
            os.fdopen(end, mode) for end, mode in ((reader, "rb"), (answers, "rb"), (writer, "wb"))
        ]
        inbox, wrote = Inbox(self._ends[0]), self._ends[2]
        self._thread = Thread(target=lambda: serve(inbox, wrote, tiers=tiers, clock=CLOCK))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        os.close(self._requests)
        self._thread.join()
        for end in self._ends:
            end.close()

    def save(self, step: int, *, promote: bool) -> bool:
        """Whether a checkpoint that is saved and handed over was taken."""
        folder = save_checkpoint(self.tiers, step, sealed=False)
        request = PromoterRequest.of_checkpoint(folder, run_id=RUN_ID, step=step, promote=promote, keep_last=KEEP_LAST)
        os.write(self._requests, render_line(step, request))
        return "error" not in parse_answer(self._ends[1].readline())[1]


@pytest.fixture
def tiers(tmp_path: Path) -> Tiers:
    return make_tiers(tmp_path)


@contextmanager
def away(tiers: Tiers) -> Iterator[None]:
    marker = tiers.durable / TIER_MARKER
    hidden = marker.rename(marker.with_name("marker"))
    yield
    hidden.rename(marker)


def on_scratch(tiers: Tiers) -> set[int]:
    return {int(path.name.partition("-")[2]) for path in tiers.checkpoints_temp(RUN_ID).glob("checkpoint-*")}


def on_durable(tiers: Tiers) -> set[str]:
    return {path.name for path in tiers.checkpoints.iterdir()}


def test_a_checkpoint_to_be_kept_outlives_the_rotation_and_is_kept_when_durable_is_back(tiers: Tiers) -> None:
    with Asked(tiers) as asked:
        with away(tiers):
            assert not asked.save(1, promote=True)
            assert all(asked.save(step, promote=False) for step in (2, 3, 4, 5))
            assert 1 in on_scratch(tiers)
        assert all(asked.save(step, promote=False) for step in (6, 7))
    assert on_durable(tiers) == {label(1).name}
    verify_seal(tiers.checkpoint(label(1).name))
    assert on_scratch(tiers) == {6, 7}


def test_scratch_does_not_fill_up_with_what_durable_never_takes(tiers: Tiers) -> None:
    with away(tiers), Asked(tiers) as asked:
        assert not any(asked.save(step, promote=True) for step in range(1, 9))
    assert on_scratch(tiers) == {7, 8}


def test_the_newest_are_promoted_at_the_end_when_durable_is_back_by_then(tiers: Tiers) -> None:
    with Asked(tiers) as asked, away(tiers):
        assert not any(asked.save(step, promote=True) for step in range(1, 9))
    assert on_durable(tiers) == {label(step).name for step in (7, 8)}


def test_a_name_that_is_taken_is_not_waited_for(tiers: Tiers) -> None:
    folder = save_checkpoint(tiers, 1, sealed=False)
    asked = PromoterRequest.of_checkpoint(folder, run_id=RUN_ID, step=1, promote=True, keep_last=1)
    tiers.checkpoint(label(1).name).mkdir()  # of somebody else
    answers = io.BytesIO()
    serve(Inbox(io.BytesIO(render_line(1, asked))), answers, tiers=tiers, clock=CLOCK)
    (fields,) = [parse_answer(line)[1] for line in answers.getvalue().splitlines()]
    assert "exists and was not promoted" in str(fields["error"])


def test_what_can_never_be_promoted_does_not_hold_up_the_others(tiers: Tiers, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), Asked(tiers) as asked:
        with away(tiers):
            assert not any(asked.save(step, promote=True) for step in (1, 2))
            (tiers.checkpoints_temp(RUN_ID) / "checkpoint-1" / "model.safetensors").write_bytes(b"damaged since")
        assert all(asked.save(step, promote=False) for step in (3, 4, 5, 6))
    assert on_durable(tiers) == {label(2).name}
    assert 1 not in on_scratch(tiers)
    assert len([record for record in caplog.records if f"is not kept name={label(1).name}" in record.message]) == 1


def test_what_durable_does_not_take_this_time_does_not_hold_up_the_others(tiers: Tiers) -> None:
    with Asked(tiers) as asked:
        with away(tiers):
            assert not any(asked.save(step, promote=True) for step in (1, 2))
            (tiers.checkpoints_temp(RUN_ID) / "checkpoint-1" / "latest").symlink_to("model.safetensors")
        assert asked.save(3, promote=False)
    assert on_durable(tiers) == {label(2).name}


def test_what_has_just_failed_is_not_tried_again_at_once(tiers: Tiers, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), away(tiers), Asked(tiers) as asked:
        assert not asked.save(1, promote=True)
    assert len([record for record in caplog.records if "still not promoted" in record.message]) == 1  # at the end
