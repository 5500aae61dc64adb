from __future__ import annotations

import io
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from nexa_infra.scheduling.evidence import HIDDEN
from nexa_infra.scheduling.logs import Progress, keep_log, read_log
from nexa_infra.testing.clock import FakeClock


class Script:
    """A job that goes one step further each time it is asked how far it is."""

    def __init__(self, folder: Path, *steps: tuple[int, bytes, Progress]) -> None:
        self.folder = folder
        self.steps = list(steps)
        self.progress = Progress(attempt=0, is_final=False)

    def find_log(self, attempt: int) -> Path | None:
        path = self.folder / f"{attempt}.log"
        return path if path.exists() else None

    def read_progress(self) -> Progress:
        if self.steps:
            attempt, text, self.progress = self.steps.pop(0)
            if text:
                with (self.folder / f"{attempt}.log").open("ab") as log:
                    log.write(text)
        return self.progress


def test_a_followed_log_is_read_to_its_last_word_over_all_attempts(tmp_path: Path) -> None:
    running, second, over = Progress(1, is_final=False), Progress(2, is_final=False), Progress(2, is_final=True)
    script = Script(
        tmp_path,
        (1, b"", Progress(0, is_final=False)),
        (1, b"one\nt", running),
        (1, b"wo\n", running),
        (1, b"", second),
        (2, b"three\r\n\xff", second),
        (2, b"four", over),
    )
    lines = list(read_log(script.find_log, script.read_progress, follow=True, clock=FakeClock()))
    assert lines == ["one", "two", "three", "\N{REPLACEMENT CHARACTER}four"]


def test_without_following_what_is_there_is_read_and_no_time_passes(tmp_path: Path) -> None:
    clock = FakeClock()
    script = Script(tmp_path, (1, b"one\ntw", Progress(1, is_final=False)))
    assert list(read_log(script.find_log, script.read_progress, follow=False, clock=clock)) == ["one", "tw"]
    assert clock.slept_s == []


def test_a_log_that_is_gone_is_an_empty_one(tmp_path: Path) -> None:
    script = Script(tmp_path, (1, b"", Progress(1, is_final=True)))
    assert list(read_log(script.find_log, script.read_progress, follow=True, clock=FakeClock())) == []


def test_moving_the_log_while_it_is_followed_loses_nothing(tmp_path: Path) -> None:
    script = Script(tmp_path, (1, b"one\n", Progress(1, is_final=False)), (1, b"two\n", Progress(1, is_final=False)))
    lines = read_log(script.find_log, script.read_progress, follow=True, clock=FakeClock())
    assert next(lines) == "one"
    (tmp_path / "1.log").rename(tmp_path / "elsewhere")
    script.progress = Progress(1, is_final=True)
    assert list(lines) == ["two"]


@settings(max_examples=20)  # each example is flushed to the disk three times
@given(st.binary(max_size=2_000))
def test_a_kept_log_without_secrets_is_the_log_to_the_byte(text: bytes) -> None:
    # A folder per example would cost more than the copy; keeping replaces.
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        target = Path(folder, "kept.log")
        keep_log(io.BytesIO(text), target, hidden=())
        assert target.read_bytes() == text
        keep_log(io.BytesIO(text), target, hidden=("not in there, ever",))
        assert target.read_bytes() == text
        assert list(Path(folder).iterdir()) == [target]


def test_a_secret_of_several_lines_is_hidden_in_the_kept_log(tmp_path: Path) -> None:
    key = "-----BEGIN-----\nabcdefgh\n-----END-----"
    keep_log(io.BytesIO(f"key: {key}\nafter\n".encode()), tmp_path / "kept.log", hidden=(key,))
    assert (tmp_path / "kept.log").read_text() == f"key: {HIDDEN}\n{HIDDEN}\n{HIDDEN}\nafter\n"
