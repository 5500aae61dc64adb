"""A program of one's own is told the newest whole checkpoint: after a crash its own, else of the run it resumes."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from nexa_contracts import env
from nexa_contracts.run import AttemptRecord, RunOutcome
from nexa_contracts.states import JobState
from nexa_infra.process import SystemRunner
from nexa_infra.scheduling.backend import render_spec
from nexa_infra.storage.layout import Project, Tiers
from nexa_infra.storage.manifests import read_attempts, read_outcome
from nexa_infra.storage.seal import seal_folder
from nexa_infra.testing.backend import make_entry, make_request

EARLIER = "run_20260101_000000_abcd"
TELL = "import os; open('told', 'a').write(os.environ.get('NEXA_RESUME_CHECKPOINT', 'not told') + '\\n')\n"


def save(root: Path, run_id: str, step: int, *, is_sealed: bool = True) -> Path:
    folder = Tiers(root / "scratch", root / "durable", root / "shared").checkpoints_temp(run_id) / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "weights").write_text(str(step))
    if is_sealed:
        seal_folder(folder, kind="checkpoint", run_id=run_id, step=step, now=datetime(2026, 1, 2, tzinfo=UTC))
    return folder


def enter(
    root: Path, code: str, *, resume_from: str = "", is_own: bool = True, attempts: int = 1
) -> tuple[RunOutcome, tuple[AttemptRecord, ...]]:
    told = {env.RESUME_CHECKPOINT: ""} if is_own else {}
    request = make_request(root, code, max_retries=attempts - 1, environment={env.RESUME_FROM: resume_from, **told})
    spec = Project(root).spec(request.submission)
    spec.parent.mkdir(parents=True, exist_ok=True)
    spec.write_text(render_spec(request))
    argv = [sys.executable, "-P", "-m", "nexa_infra.scheduling.job_entry", str(spec), "--index", "0"]
    for _ in range(attempts):
        SystemRunner().run(argv, timeout_s=120, env=dict(os.environ))
    run_id = make_entry(root, "").run_id
    return read_outcome(Project(root), run_id), read_attempts(Project(root), run_id)


def told(root: Path) -> list[str]:
    return (root / "told").read_text().splitlines()


def test_a_program_that_resumes_nothing_is_told_of_no_checkpoint(tmp_path: Path) -> None:
    enter(tmp_path, TELL)
    assert told(tmp_path) == [""]


def test_a_training_finds_its_checkpoints_itself(tmp_path: Path) -> None:
    save(tmp_path, EARLIER, 5)
    enter(tmp_path, TELL, resume_from=EARLIER, is_own=False)
    assert told(tmp_path) == ["not told"]


def test_the_newest_whole_checkpoint_of_the_resumed_run_is_given(tmp_path: Path) -> None:
    whole = save(tmp_path, EARLIER, 5)
    (save(tmp_path, EARLIER, 6) / "weights").write_text("7")
    save(tmp_path, EARLIER, 7, is_sealed=False)
    outcome, (attempt,) = enter(tmp_path, TELL, resume_from=EARLIER)
    assert outcome.state is JobState.SUCCEEDED
    assert told(tmp_path) == [str(whole)]
    assert attempt.resumed_from == f"{EARLIER} step 5"
    log = Project(tmp_path).log(outcome.run_id, 1).read_text()
    assert "checkpoint-7 is not sealed" in log
    assert "checkpoint-6 is damaged" in log


def test_after_a_crash_its_own_checkpoint_goes_before_the_resumed_runs(tmp_path: Path) -> None:
    save(tmp_path, EARLIER, 5)
    own = make_entry(tmp_path, "").run_id
    code = (
        f"{TELL}import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); sys.path[1:1] = {sys.path!r}\n"
        "if os.environ['NEXA_ATTEMPT'] == '2': sys.exit(0)\n"
        "from pathlib import Path\nfrom tests.scheduling.test_own_checkpoints import save\n"
        f"save(Path({str(tmp_path)!r}), {own!r}, 6)\nsys.exit(3)"
    )
    _, (first, second) = enter(tmp_path, code, resume_from=EARLIER, attempts=2)
    assert [Path(line).name for line in told(tmp_path)] == ["checkpoint-5", "checkpoint-6"]
    assert (first.resumed_from, second.resumed_from) == (f"{EARLIER} step 5", f"{own} step 6")


def test_no_whole_checkpoint_is_a_wrong_request_and_nothing_is_started(tmp_path: Path) -> None:
    save(tmp_path, EARLIER, 7, is_sealed=False)
    outcome, _ = enter(tmp_path, TELL, resume_from=EARLIER, attempts=2)
    assert outcome.failure is not None
    assert (outcome.attempts, outcome.failure.kind) == (1, "bad_request")
    assert "checkpoint-7 is not sealed" in outcome.failure.message
    assert not (tmp_path / "told").exists()


def test_a_checkpoint_of_its_own_that_is_not_whole_is_said_and_the_program_starts_afresh(tmp_path: Path) -> None:
    save(tmp_path, make_entry(tmp_path, "").run_id, 3, is_sealed=False)
    outcome, _ = enter(tmp_path, TELL + "raise SystemExit(os.environ['NEXA_ATTEMPT'] == '1')", attempts=2)
    assert outcome.state is JobState.SUCCEEDED
    assert told(tmp_path) == ["", ""]
    assert "checkpoint-3 is not sealed" in Project(tmp_path).log(outcome.run_id, 2).read_text()
