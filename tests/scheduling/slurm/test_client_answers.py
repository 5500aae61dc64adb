"""The client on answers that a test cluster does not give: no Slurm, no word, accounting, very many jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexa_contracts.errors import CommandTimedOut, UnreadableReply
from nexa_infra.process import Completed
from nexa_infra.scheduling.slurm.client import SlurmClient, SlurmMissing, SlurmRefused, SlurmUnreachable
from nexa_infra.scheduling.slurm.replies import parse_account
from nexa_infra.testing.clock import FakeClock
from nexa_infra.testing.process import FakeRunner

RECORDED = Path(__file__).parent / "recorded"
DISABLED = Completed(1, stderr="Slurm accounting storage is disabled\n")


def make_client(runner: FakeRunner, **environment: str) -> SlurmClient:
    return SlurmClient(runner, environment=environment, clock=FakeClock())


def test_a_machine_without_slurm_is_told_where_to_go(tmp_path: Path) -> None:
    with pytest.raises(SlurmMissing, match="slurm is not installed here; start this on a login node"):
        make_client(FakeRunner()).submit([], tmp_path / "job.sbatch", [])


def test_an_answer_without_a_number_is_a_lost_answer(tmp_path: Path) -> None:
    for answer in (Completed(0, stdout="hello"), Completed(-9), Completed(1), CommandTimedOut("sbatch: still running")):
        with pytest.raises(SlurmUnreachable):
            make_client(FakeRunner().answer(["sbatch"], answer)).submit([], tmp_path / "job.sbatch", [])


def test_the_name_of_the_cluster_behind_the_number_is_no_part_of_it(tmp_path: Path) -> None:
    client = make_client(FakeRunner().answer(["sbatch"], "123;hydra\n"))
    assert client.submit([], tmp_path / "job.sbatch", []) == "123"


def test_accounting_is_read_where_there_is_some() -> None:
    text = (RECORDED / "sacct_22.05.txt").read_text(encoding="utf-8")
    runner = FakeRunner().answer(["sacct"], text)
    assert make_client(runner).account(["6", "1"]) == parse_account(text)
    assert runner.calls[0].argv[-1] == "--jobs=6,1"
    assert make_client(FakeRunner().answer(["sacct"], DISABLED)).account(["1"]) is None


def test_a_database_that_does_not_answer_is_not_a_missing_one() -> None:
    down = Completed(1, stderr="sacct: error: Sending PersistInit msg: Connection refused\n")
    with pytest.raises(SlurmUnreachable):
        make_client(FakeRunner().answer(["sacct"], down)).account(["1"])


def test_many_jobs_are_cancelled_in_several_commands() -> None:
    runner = FakeRunner().answer(["scancel"])
    make_client(runner).cancel([f"7_{task}" for task in range(4_500)])
    assert [len(call.argv) - 1 for call in runner.calls] == [2_000, 2_000, 500]


def test_a_cancellation_that_was_refused_is_said() -> None:
    runner = FakeRunner().answer(["scancel"], Completed(1, stderr="scancel: error: Access/permission denied"))
    with pytest.raises(SlurmRefused, match="permission denied"):
        make_client(runner).cancel(["7"])


@pytest.mark.parametrize("job_id", ["", "-u", "7 8", "7\n", "7_[1-3]", "--me", "7_"])
def test_what_is_no_job_id_reaches_no_command(job_id: str) -> None:
    runner = FakeRunner().answer(["scancel"]).answer(["scontrol"])
    with pytest.raises(UnreadableReply):
        make_client(runner).cancel([job_id])
    with pytest.raises(UnreadableReply):
        make_client(runner).requeue(job_id)
    assert runner.calls == []


@pytest.mark.parametrize("nodes", ["", "n[1-", "-x", "n1;id", "n1 n2", "n[1-2],,n3", "n1\n"])
def test_what_is_no_list_of_nodes_reaches_no_command(nodes: str) -> None:
    runner = FakeRunner().answer(["scontrol"])
    with pytest.raises(UnreadableReply):
        make_client(runner).expand_hosts(nodes)
    assert runner.calls == []


def test_no_names_ask_nothing() -> None:
    runner = FakeRunner()
    assert make_client(runner).list_jobs(names=[]) == ()
    assert runner.calls == []


def test_a_form_that_neither_can_be_read_is_an_error_not_an_empty_queue() -> None:
    runner = FakeRunner().answer(["squeue"], "something new")
    with pytest.raises(UnreadableReply):
        make_client(runner).list_jobs()
    assert ["--json" in call.argv for call in runner.calls] == [False, True]


def test_a_controller_that_is_silent_is_asked_once() -> None:
    runner = FakeRunner().answer(["squeue"], CommandTimedOut("squeue: still running"))
    with pytest.raises(SlurmUnreachable):
        make_client(runner).list_jobs()
    assert len(runner.calls) == 1


def test_the_jobs_environment_is_ours_without_slurms_own() -> None:
    runner = FakeRunner().answer(["scancel"])
    make_client(runner, PATH="/bin", SBATCH_PARTITION="gpu", SCANCEL_INTERACTIVE="1", SLURM_JOB_ID="3").cancel(["7"])
    assert runner.calls[0].env == {"PATH": "/bin", "SBATCH_PARTITION": "gpu", "SLURM_BITSTR_LEN": "0"}
