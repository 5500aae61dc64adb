"""The job entry without a supervisor, as Slurm starts it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nexa_contracts.job import JobSpec
from nexa_contracts.run import AttemptRecord, RunOutcome
from nexa_contracts.states import JobState
from nexa_infra.process import Completed, SystemRunner
from nexa_infra.scheduling.backend import LaunchRequest, render_spec
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import read_attempts, read_outcome
from nexa_infra.testing.backend import make_entry, make_request

ENTRY = (sys.executable, "-P", "-m", "nexa_infra.scheduling.job_entry")


def write_spec(root: Path, request: LaunchRequest) -> Path:
    spec = Project(root).spec(request.submission)
    spec.parent.mkdir(parents=True, exist_ok=True)
    spec.write_text(render_spec(request))
    return spec


def enter(*arguments: object, **variables: str) -> Completed:
    return SystemRunner().run([*ENTRY, *map(str, arguments)], timeout_s=120, env={**os.environ, **variables})


def test_the_array_index_comes_from_slurm(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, make_request(tmp_path, "print('zero')", "print('one')"))
    assert enter(spec, SLURM_ARRAY_TASK_ID="1").returncode == 0
    run_id = make_entry(tmp_path, "", index=1).run_id
    assert Project(tmp_path).log(run_id, 1).read_text() == "one\n"
    outcome = read_outcome(Project(tmp_path), run_id)
    assert (outcome.state, outcome.index, outcome.sweep_id) == (JobState.SUCCEEDED, 1, "sweep_20260102_030405_k3f9")


def test_its_status_is_the_programs(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, make_request(tmp_path, "raise SystemExit(65)"))
    assert enter(spec, "--index", 0).returncode == 65


def test_attempts_count_on_by_themselves_until_the_last_writes_the_outcome(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, make_request(tmp_path, "raise SystemExit(3)", max_retries=1))
    run_id = make_entry(tmp_path, "").run_id
    enter(spec, "--index", 0)
    assert not Project(tmp_path).outcome(run_id).exists()
    enter(spec, "--index", 0)
    assert [each.number for each in read_attempts(Project(tmp_path), run_id)] == [1, 2]
    assert read_outcome(Project(tmp_path), run_id).attempts == 2


def test_a_run_that_has_its_outcome_is_not_run_again(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, make_request(tmp_path, "open('count', 'a').write('x')"))
    for _ in range(2):
        assert enter(spec, "--index", 0).returncode == 0
    assert (tmp_path / "count").read_text() == "x"


def test_its_records_are_the_contracts_to_the_letter(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, make_request(tmp_path, "raise KeyError('ü')"))
    run_id = make_entry(tmp_path, "").run_id
    enter(spec, "--index", 0)
    attempt = Project(tmp_path).attempt(run_id, 1).read_text()
    assert AttemptRecord.from_json(attempt, source="attempt").to_json() == attempt
    outcome = Project(tmp_path).outcome(run_id).read_text()
    assert RunOutcome.from_json(outcome, source="outcome").to_json() == outcome


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere/spec.json", "--index", "0"], "nowhere/spec.json: no such file"),
        (["{spec}", "--index", "7"], "no entry 7; found 1 entries, 0 to 0"),
        (["{spec}"], "allowed: SPEC --index N"),
        (["{spec}", "--index", "-1"], "allowed: SPEC --index N"),
        (["{broken}", "--index", "0"], "not a job spec"),
    ],
)
def test_a_wrong_call_ends_in_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    spec = write_spec(tmp_path, make_request(tmp_path, ""))
    broken = tmp_path / "broken.json"
    broken.write_text("[]")
    completed = enter(*[word.format(spec=spec, broken=broken) for word in arguments])
    assert completed.returncode == 2
    assert said in completed.stderr
    assert len(completed.stderr.splitlines()) == 1


def test_a_scratch_that_cannot_be_written_is_a_failure_on_record(tmp_path: Path) -> None:
    (tmp_path / "scratch").write_text("a file where a folder should be")
    spec = write_spec(tmp_path, make_request(tmp_path, "print()"))
    enter(spec, "--index", 0)
    failure = read_outcome(Project(tmp_path), make_entry(tmp_path, "").run_id).failure
    assert failure is not None
    assert failure.kind == "storage"
    assert str(tmp_path / "scratch") in failure.message


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("os.mkfifo(path)", "not a regular file"),
        ("open(path, 'w').write('{')", "not valid JSON"),
        ("open(path, 'w').write('{\"steps\": 10000000000000000000000}')", "steps"),
        ("open(path, 'wb').truncate(1 << 40)", "larger than"),
    ],
)
def test_a_result_that_is_none_is_a_failure_on_record(tmp_path: Path, code: str, said: str) -> None:
    script = f"import os; path = os.environ['NEXA_RUN_DIR'] + '/attempts/1.result.json'; {code}"
    spec = write_spec(tmp_path, make_request(tmp_path, script))
    assert enter(spec, "--index", 0).returncode == 1
    failure = read_outcome(Project(tmp_path), make_entry(tmp_path, "").run_id).failure
    assert failure is not None
    assert said in failure.message


def test_neither_the_job_entry_nor_the_supervisor_loads_pydantic() -> None:
    code = (
        "import sys, nexa_infra.scheduling.job_entry, nexa_infra.scheduling.supervisor, nexa_infra.scheduling.local; "
        "sys.exit(sorted({'pydantic', 'torch', 'numpy', 'psutil'} & set(sys.modules)) or 0)"
    )
    completed = SystemRunner().run([sys.executable, "-c", code], timeout_s=120)
    assert (completed.returncode, completed.stderr) == (0, "")


def test_what_an_entry_reads_is_what_a_spec_holds(tmp_path: Path) -> None:
    from nexa_infra.scheduling.entry import read_entry

    spec = write_spec(tmp_path, make_request(tmp_path, "print()", secrets=("A",), environment={"B": "c"}))
    entry, given = read_entry(spec, 0), JobSpec.from_json(spec.read_text(), source="spec.json").entry(0)
    for name in ("run_id", "sweep_id", "command", "environment", "secrets", "walltime_s", "max_retries", "grace_s"):
        assert getattr(entry, name) == getattr(given, name), name
    assert entry.cpus == given.resources.cpus
    assert str(entry.run_dir.path) == given.run_dir
