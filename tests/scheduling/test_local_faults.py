from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from nexa_contracts.clock import SystemClock
from nexa_contracts.errors import StorageError
from nexa_contracts.job import JobHandle
from nexa_contracts.site import LocalLimits, SiteConfig
from nexa_contracts.states import JobState
from nexa_infra.scheduling.local_queue import LocalQueue
from nexa_infra.scheduling.process_tree import ProcessMark, end_tree, find_process, is_alive, send_signal
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import read_outcome
from nexa_infra.testing.backend import BackendContract, launch, make_request
from tests.scheduling.local_machine import LocalMachine, wait_until

WAITS_FOR_GO = (
    "import os, pathlib, time\n"
    "pathlib.Path('started').write_text(str(os.getpid()))\n"
    "while not pathlib.Path('go').exists(): time.sleep(0.02)\n"
    "print('went')"
)
# A daemon as it is written: two forks, a session of its own, and every trace of its origin removed.
LEAVES_A_DAEMON = (
    "import os, pathlib, signal, time\n"
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "    if os.fork() == 0:\n"
    "        signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "        pathlib.Path('daemon.new').write_text(str(os.getpid()))\n"
    "        os.rename('daemon.new', 'daemon')\n"
    "        {then}\n"
    "    os._exit(0)\n"
    "os.wait()\n"
)
SLEEPS = "time.sleep(600)"
SHEDS_ITS_TOKEN = "os.execve('/bin/sleep', ['sleep', '600'], {})"


def mark_of(pid: int) -> ProcessMark:
    process = find_process(pid)
    assert process is not None
    return process.mark


def start_waiting(machine: LocalMachine, root: Path, *, max_retries: int = 0) -> tuple[JobHandle, ProcessMark]:
    (handle,) = launch(machine.backend, root, make_request(root, WAITS_FOR_GO, max_retries=max_retries))
    return handle, mark_of(int(machine.wait_for_file(root / "started")))


@pytest.mark.parametrize("then", [SLEEPS, SHEDS_ITS_TOKEN])
def test_a_cancelled_job_leaves_no_process_behind(machine: LocalMachine, tmp_path: Path, then: str) -> None:
    code = LEAVES_A_DAEMON.format(then=then) + "time.sleep(600)"
    (handle,) = launch(machine.backend, tmp_path, make_request(tmp_path, code))
    daemon = mark_of(int(machine.wait_for_file(tmp_path / "daemon")))
    machine.backend.cancel([handle])
    outcome = machine.outcome(tmp_path, handle)
    assert (outcome.state, outcome.attempts) == (JobState.CANCELLED, 1)
    assert not is_alive(daemon)


def test_a_job_that_succeeds_leaves_no_process_behind(machine: LocalMachine, tmp_path: Path) -> None:
    code = LEAVES_A_DAEMON.format(then=SLEEPS)
    (handle,) = launch(machine.backend, tmp_path, make_request(tmp_path, code))
    assert machine.outcome(tmp_path, handle).state is JobState.SUCCEEDED
    daemon = find_process(int((tmp_path / "daemon").read_text()))
    assert daemon is None or daemon.is_zombie


def test_a_run_that_cannot_be_recorded_does_not_hold_up_the_others(machine: LocalMachine, tmp_path: Path) -> None:
    spoil = "import os; path = os.environ['NEXA_RUN_DIR'] + '/attempts'; os.rmdir(path); open(path, 'w')"
    one_core = SiteConfig(local=LocalLimits(cpus=1))
    spoilt, other = launch(machine.backend, tmp_path, make_request(tmp_path, spoil, "print('two')"), site=one_core)
    assert machine.wait_for_end([other]) == [JobState.SUCCEEDED]
    assert machine.backend.states([spoilt]) == {spoilt: JobState.RUNNING}
    Project(tmp_path).attempts(spoilt.name).unlink()
    assert machine.wait_for_end([spoilt]) == [JobState.FAILED]


def test_a_job_cancelled_while_it_waits_never_starts(machine: LocalMachine, tmp_path: Path) -> None:
    request = make_request(tmp_path, WAITS_FOR_GO, "open('second', 'w')", max_parallel=1)
    first, second = launch(machine.backend, tmp_path, request)
    machine.wait_for_file(tmp_path / "started")
    machine.backend.cancel([second])
    outcome = machine.outcome(tmp_path, second)
    assert (outcome.state, outcome.attempts, outcome.seconds) == (JobState.CANCELLED, 0, 0.0)
    (tmp_path / "go").touch()
    assert machine.wait_for_end([first]) == [JobState.SUCCEEDED]
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_jobs_outlive_their_supervisor_and_the_next_one_adopts_them(
    machine: LocalMachine, tmp_path: Path, number: signal.Signals
) -> None:
    handle, work = start_waiting(machine, tmp_path)
    supervisor = machine.supervisor()
    send_signal(supervisor.pid, number)
    wait_until(lambda: not is_alive(supervisor), what="end of the supervisor")
    assert is_alive(work)
    assert machine.backend.states([handle]) == {handle: JobState.RUNNING}
    assert machine.supervisor() != supervisor
    (tmp_path / "go").touch()
    assert machine.wait_for_end([handle]) == [JobState.SUCCEEDED]
    assert [each.number for each in machine.attempts(tmp_path, handle)] == [1]


def test_a_job_that_ended_while_nobody_supervised_is_settled(machine: LocalMachine, tmp_path: Path) -> None:
    handle, work = start_waiting(machine, tmp_path)
    entry = machine.job(handle).mark
    assert entry is not None
    machine.kill_supervisor()
    (tmp_path / "go").touch()
    wait_until(lambda: not is_alive(work) and not is_alive(entry), what="end of the job")
    assert machine.wait_for_end([handle]) == [JobState.SUCCEEDED]


def test_a_killed_job_entry_takes_its_program_along_and_the_run_is_tried_again(
    machine: LocalMachine, tmp_path: Path
) -> None:
    handle, work = start_waiting(machine, tmp_path, max_retries=1)
    entry = entry_of(machine, handle)
    (tmp_path / "go.not-yet").touch()
    send_signal(entry.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(work), what="death of the program")
    (tmp_path / "go").touch()
    assert machine.outcome(tmp_path, handle).state is JobState.SUCCEEDED
    lost, good = machine.attempts(tmp_path, handle)
    assert (lost.state, good.state) == (JobState.FAILED, JobState.SUCCEEDED)
    assert lost.failure is not None
    assert lost.failure.kind == "lost"
    assert lost.seconds > 0


def test_an_entry_whose_pid_was_never_noted_is_found_by_its_token(machine: LocalMachine, tmp_path: Path) -> None:
    handle, work = start_waiting(machine, tmp_path)
    machine.kill_supervisor()
    with LocalQueue(machine.state.queue) as queue:
        queue.update_job(int(handle.job_id), pid=None, start_ticks=None)
    assert machine.backend.states([handle]) == {handle: JobState.RUNNING}
    wait_until(lambda: machine.job(handle).mark is not None, what="adoption")
    assert is_alive(work)
    (tmp_path / "go").touch()
    assert machine.wait_for_end([handle]) == [JobState.SUCCEEDED]
    assert len(machine.attempts(tmp_path, handle)) == 1


def test_after_a_reboot_what_ran_is_tried_again_and_what_waited_runs(machine: LocalMachine, tmp_path: Path) -> None:
    request = make_request(tmp_path, WAITS_FOR_GO, "print('second')", max_parallel=1, max_retries=1)
    first, second = launch(machine.backend, tmp_path, request)
    machine.wait_for_file(tmp_path / "started")
    machine.kill_supervisor()
    token = machine.job(first).token
    assert token is not None
    assert end_tree(token, clock=SystemClock(), grace_s=0.0)
    with LocalQueue(machine.state.queue) as queue:
        queue.update_job(int(first.job_id), boot_id="an earlier boot")
    (tmp_path / "go").touch()
    assert machine.wait_for_end([first, second]) == [JobState.SUCCEEDED] * 2
    down, good = machine.attempts(tmp_path, first)
    assert (down.state, good.state) == (JobState.NODE_FAILED, JobState.SUCCEEDED)
    assert down.failure is not None
    assert down.failure.message == "the machine went down while it ran"


def signal_job(machine: LocalMachine, root: Path, number: signal.Signals, *, then: str) -> JobHandle:
    """Return the handle of a job that waited for a signal, was sent it through its entry, and does something then."""
    code = (
        "import os, pathlib, signal, sys\n"
        "if os.environ['NEXA_ATTEMPT'] == '2': sys.exit(0)\n"
        f"signal.pthread_sigmask(signal.SIG_BLOCK, [{int(number)}])\n"
        "pathlib.Path('started').write_text(str(os.getpid()))\n"
        f"came = signal.sigwait([{int(number)}])\n" + then
    )
    (handle,) = launch(machine.backend, root, make_request(root, code))
    machine.wait_for_file(root / "started")
    send_signal(entry_of(machine, handle).pid, number)
    return handle


def entry_of(machine: LocalMachine, handle: JobHandle) -> ProcessMark:
    """Return the process of a job's entry, once the supervisor has noted it."""
    wait_until(lambda: machine.job(handle).mark is not None, what="the pid of the entry")
    entry = machine.job(handle).mark
    assert entry is not None
    return entry


def test_signals_for_the_program_are_passed_on(machine: LocalMachine, tmp_path: Path) -> None:
    handle = signal_job(machine, tmp_path, signal.SIGUSR1, then="print(came.name)")
    assert machine.wait_for_end([handle]) == [JobState.SUCCEEDED]
    assert list(machine.backend.logs(handle)) == ["SIGUSR1"]


def test_a_job_asked_to_leave_from_outside_may_save_and_go_on_later(machine: LocalMachine, tmp_path: Path) -> None:
    handle = signal_job(machine, tmp_path, signal.SIGTERM, then="sys.exit(75)")
    assert machine.wait_for_end([handle]) == [JobState.SUCCEEDED]
    assert [each.state for each in machine.attempts(tmp_path, handle)] == [JobState.PREEMPTED, JobState.SUCCEEDED]


def test_a_log_is_followed_across_attempts_until_the_run_ends(machine: LocalMachine, tmp_path: Path) -> None:
    code = "import os, sys; n = os.environ['NEXA_ATTEMPT']; print('attempt', n); sys.exit(n == '1')"
    (handle,) = launch(machine.backend, tmp_path, make_request(tmp_path, code, max_retries=1))
    assert list(machine.backend.logs(handle, follow=True)) == ["attempt 1", "attempt 2"]


def test_who_follows_a_log_sees_its_end_even_if_the_supervisor_is_killed(machine: LocalMachine, tmp_path: Path) -> None:
    code = WAITS_FOR_GO.replace("import os", "print('first', flush=True)\nimport os")
    (handle,) = launch(machine.backend, tmp_path, make_request(tmp_path, code))
    lines = machine.backend.logs(handle, follow=True)
    assert next(lines) == "first"
    machine.kill_supervisor()
    (tmp_path / "go").touch()
    assert list(lines) == ["went"]


def test_a_supervisor_with_nothing_to_do_leaves(machine: LocalMachine, tmp_path: Path) -> None:
    launch(machine.backend, tmp_path, make_request(tmp_path, "print()"))
    supervisor = machine.supervisor()
    wait_until(lambda: not is_alive(supervisor), what="end of the idle supervisor")
    assert machine.find_supervisor() is None


def test_a_supervisor_whose_folder_was_removed_leaves_and_its_job_ends_well(
    machine: LocalMachine, tmp_path: Path
) -> None:
    handle, _ = start_waiting(machine, tmp_path)
    supervisor = machine.supervisor()
    shutil.rmtree(machine.state.path)
    wait_until(lambda: not is_alive(supervisor), what="end of the supervisor")
    (tmp_path / "go").touch()
    outcome = Project(tmp_path).outcome(handle.name)
    wait_until(outcome.exists, what="the outcome")
    assert read_outcome(Project(tmp_path), handle.name).state is JobState.SUCCEEDED
    assert machine.backend.states([handle]) == {handle: JobState.UNKNOWN}


def test_a_thousand_waiting_trials_cost_the_supervisor_little_memory(machine: LocalMachine, tmp_path: Path) -> None:
    codes = [BackendContract.LONG, *["print()"] * 999]
    handles = launch(machine.backend, tmp_path, make_request(tmp_path, *codes, max_parallel=1))
    wait_until(lambda: machine.job(handles[0]).state is JobState.RUNNING, what="start of the first")
    lines = Path(f"/proc/{machine.supervisor().pid}/status").read_text().splitlines()
    peak_kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    assert peak_kib < 60 * 1024
    assert list(machine.backend.states(handles).values()).count(JobState.PENDING) == 999


def test_a_damaged_queue_is_named_with_what_to_do(machine: LocalMachine, tmp_path: Path) -> None:
    machine.state.queue.parent.mkdir(parents=True)
    machine.state.queue.write_bytes(os.urandom(8192))
    with pytest.raises(StorageError, match="local queue is damaged") as caught:
        launch(machine.backend, tmp_path, make_request(tmp_path, "print()"))
    assert f"mv {machine.state.queue}" in str(caught.value.hint)
    machine.state.queue.unlink()
