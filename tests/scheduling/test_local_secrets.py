from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nexa_contracts.errors import ConfigError
from nexa_contracts.states import JobState
from nexa_infra.process import SystemRunner
from nexa_infra.scheduling.local_queue import LocalQueue
from nexa_infra.scheduling.process_tree import is_alive
from nexa_infra.storage.layout import Project
from nexa_infra.testing.backend import launch, make_request
from tests.scheduling.local_machine import LocalMachine, wait_until

VALUE = "a value that nobody may read"
USES_IT = (
    "import os, sys; print('got', os.environ['MY_TOKEN'], flush=True); sys.exit('KeyError: ' + os.environ['MY_TOKEN'])"
)


def test_a_secret_reaches_the_job_and_no_file(machine: LocalMachine, tmp_path: Path) -> None:
    machine.environment["MY_TOKEN"] = VALUE
    (handle,) = launch(machine.backend, tmp_path, make_request(tmp_path, USES_IT, secrets=("MY_TOKEN",)))
    failure = machine.outcome(tmp_path, handle).failure
    assert failure is not None
    assert failure.message == "KeyError: (hidden)"
    assert Project(tmp_path).log(handle.name, 1).read_text() == "got (hidden)\nKeyError: (hidden)\n"
    files = [path for root in (tmp_path, machine.state.path) for path in root.rglob("*") if path.is_file()]
    assert [path for path in files if VALUE.encode() in path.read_bytes()] == []


def test_a_secret_that_is_set_nowhere_is_named_before_anything_is_queued(machine: LocalMachine, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="MY_TOKEN: not set") as caught:
        launch(machine.backend, tmp_path, make_request(tmp_path, USES_IT, secrets=("MY_TOKEN",)))
    assert "export MY_TOKEN=" in str(caught.value.hint)
    assert machine.find_supervisor() is None


def test_a_launcher_with_a_new_secret_replaces_the_supervisor_and_jobs_go_on(
    machine: LocalMachine, tmp_path: Path
) -> None:
    waits = "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)"
    roots = [tmp_path / "one", tmp_path / "two"]
    for root in roots:
        root.mkdir()
    (first,) = launch(machine.backend, roots[0], make_request(roots[0], waits))
    wait_until(lambda: machine.job(first).mark is not None, what="start of the first")
    before = machine.supervisor()
    machine.environment["MY_TOKEN"] = VALUE
    needs = "import os; assert os.environ['MY_TOKEN']"
    (second,) = launch(machine.backend, roots[1], make_request(roots[1], needs, secrets=("MY_TOKEN",)))
    assert machine.wait_for_end([second]) == [JobState.SUCCEEDED]
    assert not is_alive(before)
    (roots[0] / "go").touch()
    assert machine.wait_for_end([first]) == [JobState.SUCCEEDED]
    assert len(machine.attempts(roots[0], first)) == 1


def test_a_job_whose_secret_was_lost_waits_for_a_shell_that_has_it(machine: LocalMachine, tmp_path: Path) -> None:
    machine.environment["MY_TOKEN"] = VALUE
    waits = "import os, pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)"
    request = make_request(tmp_path, waits, "import os; os.environ['MY_TOKEN']", max_parallel=1, secrets=("MY_TOKEN",))
    first, second = launch(machine.backend, tmp_path, request)
    wait_until(lambda: machine.job(first).mark is not None, what="start of the first")
    machine.kill_supervisor()
    del machine.environment["MY_TOKEN"]
    (tmp_path / "go").touch()
    assert machine.wait_for_end([first]) == [JobState.SUCCEEDED]
    wait_until(lambda: machine.job(second).reason is not None, what="the reason why it waits")
    assert "MY_TOKEN" in str(machine.job(second).reason)
    machine.environment["MY_TOKEN"] = VALUE
    assert machine.wait_for_end([second]) == [JobState.SUCCEEDED]


def test_launchers_at_the_same_moment_all_bring_their_secrets(machine: LocalMachine, tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from nexa_infra.scheduling.local import LocalBackend\n"
        "from nexa_infra.scheduling.state_dir import StateDir\n"
        "from nexa_infra.testing.backend import launch, make_request\n"
        "root, name, state = Path(sys.argv[1]), sys.argv[2], StateDir(Path(sys.argv[3]))\n"
        "request = make_request(root, f'import os; print(os.environ[{name!r}])', secrets=(name,))\n"
        "(handle,) = launch(LocalBackend(state, environment=os.environ), root, request)\n"
        "print(handle.job_id)"
    )
    runner = SystemRunner()
    children = []
    for number in range(3):
        root, name = tmp_path / str(number), f"TOKEN_{number}"
        root.mkdir()
        argv = (sys.executable, "-c", code, str(root), name, str(machine.state.path))
        children.append(runner.start(argv, output="pipes", env={**os.environ, name: f"value of {name}"}))
    job_ids = [int(child.stdout.readline()) for child in children]
    assert [child.wait(60.0) for child in children] == [0, 0, 0]
    for child in children:
        child.close()

    def states() -> list[JobState]:
        # Not through the backend: its states() would bring the secrets of this process, and here it has none.
        with LocalQueue(machine.state.queue) as queue:
            return [queue.find_jobs([job_id])[job_id].state for job_id in job_ids]

    wait_until(lambda: all(state.is_final for state in states()), what="end of all three")
    assert states() == [JobState.SUCCEEDED] * 3
