from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from nexa_contracts.resources import Resources
from nexa_contracts.states import JobState
from nexa_infra.storage.layout import Project
from nexa_infra.testing.backend import launch, make_entry, make_request
from tests.scheduling.local_machine import LocalMachine

SECOND_TIME = "import os, sys; sys.exit(0 if os.environ['NEXA_ATTEMPT'] == '2' else {status})"


def test_a_run_leaves_its_attempt_its_log_and_its_outcome(machine: LocalMachine, tmp_path: Path) -> None:
    (handle,) = launch(machine.backend, tmp_path, make_request(tmp_path, "print('hello')"))
    outcome = machine.outcome(tmp_path, handle)
    (attempt,) = machine.attempts(tmp_path, handle)
    assert (outcome.state, outcome.attempts, outcome.index) == (JobState.SUCCEEDED, 1, 0)
    assert outcome.seconds == attempt.seconds > 0
    assert (attempt.exit_code, attempt.signal, attempt.failure) == (0, None, None)
    assert Project(tmp_path).log(handle.name, 1).read_text() == "hello\n"
    assert not list((tmp_path / "scratch").rglob("*.log"))


def test_a_crash_is_tried_again_as_often_as_allowed(machine: LocalMachine, tmp_path: Path) -> None:
    code = SECOND_TIME.format(status=3)
    (handle,) = launch(machine.backend, tmp_path, make_request(tmp_path, code, max_retries=1))
    assert machine.outcome(tmp_path, handle).state is JobState.SUCCEEDED
    assert [(each.state, each.exit_code) for each in machine.attempts(tmp_path, handle)] == [
        (JobState.FAILED, 3),
        (JobState.SUCCEEDED, 0),
    ]


def test_leaving_with_a_checkpoint_uses_up_no_retry(machine: LocalMachine, tmp_path: Path) -> None:
    code = SECOND_TIME.format(status=75)
    (handle,) = launch(machine.backend, tmp_path, make_request(tmp_path, code, max_retries=0))
    assert machine.outcome(tmp_path, handle).state is JobState.SUCCEEDED
    assert [each.state for each in machine.attempts(tmp_path, handle)] == [JobState.PREEMPTED, JobState.SUCCEEDED]


def test_a_run_that_reaches_its_walltime_goes_on_as_often_as_allowed(machine: LocalMachine, tmp_path: Path) -> None:
    request = make_request(tmp_path, "import time; time.sleep(60)", walltime_s=0.3, max_time_outs=1, max_retries=0)
    (handle,) = launch(machine.backend, tmp_path, request)
    assert machine.outcome(tmp_path, handle).state is JobState.TIMED_OUT
    assert [each.state for each in machine.attempts(tmp_path, handle)] == [JobState.TIMED_OUT] * 2


def test_a_program_that_always_leaves_is_not_started_for_ever(machine: LocalMachine, tmp_path: Path) -> None:
    request = make_request(tmp_path, "raise SystemExit(75)", max_preemptions=1, max_retries=9)
    (handle,) = launch(machine.backend, tmp_path, request)
    outcome = machine.outcome(tmp_path, handle)
    assert (outcome.state, outcome.attempts) == (JobState.FAILED, 2)
    assert outcome.failure is not None
    assert outcome.failure.message == "left 2 times; max_preemptions is 1"


def test_a_crash_that_came_at_the_same_step_before_is_not_tried_a_third_time(
    machine: LocalMachine, tmp_path: Path
) -> None:
    code = (
        "import json, os; line = json.dumps({'step': 4}) + chr(10); "
        "open(os.environ['NEXA_RUN_DIR'] + '/metrics.jsonl', 'a').write(line); raise ValueError('bad row')"
    )
    (handle,) = launch(machine.backend, tmp_path, make_request(tmp_path, code, max_retries=9))
    outcome = machine.outcome(tmp_path, handle)
    assert (outcome.state, outcome.attempts) == (JobState.FAILED, 2)
    assert outcome.failure is not None
    assert outcome.failure.message == (
        "ValueError: bad row; the same as in attempt 1 at step 4, so it is not tried again"
    )
    assert [each.step for each in machine.attempts(tmp_path, handle)] == [4, 4]


@pytest.mark.parametrize(("status", "kind"), [(2, "bad_request"), (65, "diverged"), (78, "bad_request")])
def test_what_cannot_get_better_is_not_tried_again(
    machine: LocalMachine, tmp_path: Path, status: int, kind: str
) -> None:
    request = make_request(tmp_path, f"print('ValueError: no'); raise SystemExit({status})", max_retries=5)
    (handle,) = launch(machine.backend, tmp_path, request)
    outcome = machine.outcome(tmp_path, handle)
    assert (outcome.state, outcome.attempts) == (JobState.FAILED, 1)
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.message) == (kind, "ValueError: no")


def test_a_program_that_is_not_there_is_a_bad_request(machine: LocalMachine, tmp_path: Path) -> None:
    request = make_request(tmp_path, "", command=("no-such-program-anywhere",), max_retries=5)
    (handle,) = launch(machine.backend, tmp_path, request)
    outcome = machine.outcome(tmp_path, handle)
    assert outcome.attempts == 1
    assert outcome.failure is not None
    assert "no-such-program-anywhere" in outcome.failure.message


def test_a_run_past_its_walltime_is_ended_even_if_it_does_not_listen(machine: LocalMachine, tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    request = make_request(tmp_path, code, walltime_s=0.5, grace_s=0.2, max_retries=5)
    (handle,) = launch(machine.backend, tmp_path, request)
    outcome = machine.outcome(tmp_path, handle)
    assert (outcome.state, outcome.attempts) == (JobState.TIMED_OUT, 1)
    assert machine.attempts(tmp_path, handle)[0].signal == 9
    assert outcome.failure is not None
    assert outcome.failure.message.startswith("reached its walltime of 0.5s")


def test_what_the_program_says_of_its_work_is_in_the_outcome(machine: LocalMachine, tmp_path: Path) -> None:
    result = {"steps": 7, "tokens": 512, "metrics": {"loss": 0.5}, "resumed_from": None}
    code = (
        "import os, pathlib; folder = pathlib.Path(os.environ['NEXA_RUN_DIR'], 'attempts'); "
        f"folder.mkdir(exist_ok=True); (folder / '1.result.json').write_text('''{json.dumps(result)}''')"
    )
    (handle,) = launch(machine.backend, tmp_path, make_request(tmp_path, code))
    outcome = machine.outcome(tmp_path, handle)
    assert (outcome.state, outcome.steps, outcome.tokens, outcome.metrics) == (
        JobState.SUCCEEDED, 7, 512, {"loss": 0.5},
    )  # fmt: skip


def test_the_status_a_program_states_counts_where_its_starter_hides_it(machine: LocalMachine, tmp_path: Path) -> None:
    # As under torchrun, which answers 1 whatever status its workers ended with.
    code = (
        "import os, pathlib; folder = pathlib.Path(os.environ['NEXA_RUN_DIR'], 'attempts'); "
        "folder.mkdir(exist_ok=True); (folder / '1.result.json').write_text('{\"exit_code\": 65}'); raise SystemExit(1)"
    )
    (handle,) = launch(machine.backend, tmp_path, make_request(tmp_path, code, max_retries=3))
    outcome = machine.outcome(tmp_path, handle)
    assert (outcome.state, outcome.attempts) == (JobState.FAILED, 1)
    assert outcome.failure is not None
    assert outcome.failure.kind == "diverged"


def test_a_result_that_cannot_be_read_is_a_failure_with_its_reason(machine: LocalMachine, tmp_path: Path) -> None:
    code = (
        "import os, pathlib; folder = pathlib.Path(os.environ['NEXA_RUN_DIR'], 'attempts'); "
        "folder.mkdir(exist_ok=True); (folder / '1.result.json').write_text('{\"loss\": 1}')"
    )
    (handle,) = launch(machine.backend, tmp_path, make_request(tmp_path, code, max_retries=3))
    outcome = machine.outcome(tmp_path, handle)
    assert (outcome.state, outcome.attempts) == (JobState.FAILED, 1)
    assert outcome.failure is not None
    assert "1.result.json" in outcome.failure.message


def test_a_scratch_that_vanishes_is_told_and_the_log_survives(machine: LocalMachine, tmp_path: Path) -> None:
    code = (
        "import os, shutil; print('KeyError: before', flush=True); "
        "shutil.rmtree(os.environ['NEXA_SCRATCH_DIR']); raise SystemExit(3)"
    )
    (handle,) = launch(machine.backend, tmp_path, make_request(tmp_path, code))
    failure = machine.outcome(tmp_path, handle).failure
    assert failure is not None
    assert failure.message == "KeyError: before"
    assert "scratch vanished" in failure.evidence[-1]
    assert Project(tmp_path).log(handle.name, 1).read_text() == "KeyError: before\n"


def test_no_more_runs_of_a_submission_go_at_once_than_it_allows(machine: LocalMachine, tmp_path: Path) -> None:
    code = "import time; print(time.monotonic()); time.sleep(0.05); print(time.monotonic())"
    handles = launch(machine.backend, tmp_path, make_request(tmp_path, code, code, code, max_parallel=1))
    assert machine.wait_for_end(handles) == [JobState.SUCCEEDED] * 3
    spans = sorted(tuple(map(float, machine.backend.logs(handle))) for handle in handles)
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(spans))


def test_a_job_gets_what_it_was_given_and_little_else(machine: LocalMachine, tmp_path: Path) -> None:
    machine.environment["FOREIGN"] = "value"
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    request = make_request(tmp_path, code, environment={"MINE": "two words; $HOME `id`"}, resources=Resources(cpus=2))
    (handle,) = launch(machine.backend, tmp_path, request)
    assert machine.wait_for_end([handle]) == [JobState.SUCCEEDED]
    told = json.loads(next(machine.backend.logs(handle)))
    assert told["MINE"] == "two words; $HOME `id`"
    assert told["NEXA_RUN_ID"] == handle.name
    assert told["NEXA_RUN_CONFIG"] == str(Project(tmp_path).config(handle.name))
    assert told["OMP_NUM_THREADS"] == "2"
    assert {"FOREIGN", "NEXA_STATE_DIR", "PYTHONPATH"}.isdisjoint(told)


def test_two_submissions_at_the_same_time_do_not_meet(machine: LocalMachine, tmp_path: Path) -> None:
    roots = [tmp_path / "one", tmp_path / "two"]
    handles = [
        launch(machine.backend, root, make_request(root, f"print({number})"))[0] for number, root in enumerate(roots)
    ]
    assert handles[0].job_id != handles[1].job_id
    assert machine.wait_for_end(handles) == [JobState.SUCCEEDED] * 2
    assert [Project(root).log(handles[0].name, 1).read_text() for root in roots] == ["0\n", "1\n"]


def test_a_run_is_too_large_for_this_machine_before_it_is_queued(machine: LocalMachine, tmp_path: Path) -> None:
    from nexa_contracts.errors import ConfigError

    entry = make_entry(tmp_path, "", resources=Resources(cpus=4096))
    with pytest.raises(ConfigError, match=r"resources\.cpus: asks for 4096 cores"):
        launch(machine.backend, tmp_path, make_request(tmp_path, "", resources=entry.resources))
    assert machine.find_supervisor() is None
