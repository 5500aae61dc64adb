from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nexa_contracts.errors import StorageError
from nexa_infra.process import SystemRunner
from nexa_infra.storage.layout import Tiers
from nexa_infra.storage.promoter import Inbox, serve
from nexa_infra.storage.promoter_client import PromoterClient
from nexa_infra.storage.promoter_messages import PromoterRequest, parse_answer, parse_request, render_line
from nexa_infra.storage.seal import verify_seal
from tests.storage.artifacts_made import CLOCK, RUN_ID, hidden, label, make_tiers, save_checkpoint

PATIENCE_S = 120.0


@pytest.fixture
def tiers(tmp_path: Path) -> Tiers:
    return make_tiers(tmp_path)


@pytest.fixture
def client(tiers: Tiers) -> Iterator[PromoterClient]:
    with PromoterClient(tiers, starter=SystemRunner(), environment=os.environ) as client:
        yield client


def request(tiers: Tiers, step: int, *, promote: bool = False, keep_last: int | None = None) -> PromoterRequest:
    folder = save_checkpoint(tiers, step, sealed=False)
    return PromoterRequest.of_checkpoint(folder, run_id=RUN_ID, step=step, promote=promote, keep_last=keep_last)


def ask(tiers: Tiers, *lines: bytes) -> list[tuple[int, dict[str, object]]]:
    answers = io.BytesIO()
    serve(Inbox(io.BytesIO(b"".join(lines))), answers, tiers=tiers, clock=CLOCK)
    return [parse_answer(line) for line in answers.getvalue().splitlines()]


def test_a_request_is_read_as_it_was_written(tiers: Tiers) -> None:
    asked = request(tiers, 40, promote=True, keep_last=2)
    assert parse_request(render_line(7, asked)) == (7, asked)


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"7", b"{}", b'{"id": 1}', b'{"id": 1, "what": 2}'])
def test_a_line_of_another_version_is_not_a_request(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_request(line)


def test_requests_are_done_in_order_and_an_error_stops_nothing(tiers: Tiers) -> None:
    lost = PromoterRequest.of_model(tiers.scratch / "none", run_id=RUN_ID)
    answers = ask(
        tiers,
        render_line(1, request(tiers, 10, promote=True)),
        render_line(2, lost),
        render_line(3, request(tiers, 20)),
    )
    assert [number for number, _ in answers] == [1, 2, 3]
    assert answers[0][1]["path"] == f"checkpoints/{label(10).name}"
    assert "no such folder" in str(answers[1][1]["error"])
    assert answers[2][1]["size_bytes"] == 10342
    verify_seal(tiers.checkpoint(label(10).name))
    verify_seal(tiers.checkpoints_temp(RUN_ID) / "checkpoint-20")


def test_a_request_cut_off_by_the_death_of_its_writer_is_not_done(tiers: Tiers) -> None:
    asked = request(tiers, 10)
    assert ask(tiers, render_line(1, asked)[:-1]) == []
    assert not (Path(asked.folder) / "nexa_seal.json").exists()


def test_asking_twice_does_no_harm(tiers: Tiers) -> None:
    line = render_line(1, request(tiers, 10, promote=True))
    first, second = (fields for _, fields in ask(tiers, line, line))
    assert {**first, "seconds": 0} == {**second, "seconds": 0}


def test_old_checkpoints_go_and_those_still_asked_for_stay(tiers: Tiers) -> None:
    lines = [render_line(step, request(tiers, step, keep_last=2)) for step in (1, 2, 3, 4, 5)]
    answers = ask(tiers, *lines)
    assert all("error" not in fields for _, fields in answers)
    left = sorted(path.name for path in tiers.checkpoints_temp(RUN_ID).iterdir())
    assert left == ["checkpoint-4", "checkpoint-5"]


def test_the_client_returns_what_became_of_each(tiers: Tiers, client: PromoterClient) -> None:
    client.submit(request(tiers, 10))
    client.submit(request(tiers, 20, promote=True))
    sealed, promoted = client.drain(PATIENCE_S)
    assert (sealed.request.step, promoted.request.step) == (10, 20)
    reference = promoted.artifact_ref()
    assert (reference.name, reference.path) == (label(20).name, f"checkpoints/{label(20).name}")
    with pytest.raises(StorageError, match="only sealed"):
        sealed.artifact_ref()
    assert client.drain(0) == ()


def test_an_error_is_raised_when_the_client_drains_and_the_rest_is_kept(tiers: Tiers, client: PromoterClient) -> None:
    client.submit(PromoterRequest.of_model(tiers.scratch / "none", run_id=RUN_ID))
    client.submit(request(tiers, 20, promote=True))
    with pytest.raises(StorageError, match="no such folder"):
        client.drain(PATIENCE_S)
    (promoted,) = client.collect()
    assert promoted.path == f"checkpoints/{label(20).name}"


def test_a_killed_promoter_is_replaced_once_and_nothing_is_lost(tiers: Tiers, client: PromoterClient) -> None:
    client.submit(request(tiers, 10, promote=True))
    kill(client)
    client.submit(request(tiers, 20, promote=True))
    assert {answer.request.step for answer in client.drain(PATIENCE_S)} == {10, 20}
    for step in (10, 20):
        verify_seal(tiers.checkpoint(label(step).name))
    assert hidden(tiers) == []
    kill(client)
    client.submit(request(tiers, 30))
    with pytest.raises(StorageError, match="are open: the promoter was ended by signal 9"):
        client.drain(PATIENCE_S)


def test_signals_for_training_do_not_end_the_promoter(tiers: Tiers, client: PromoterClient) -> None:
    client.submit(request(tiers, 10))
    client.drain(PATIENCE_S)
    assert client.pid is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        os.kill(client.pid, number)
    before = client.pid
    client.submit(request(tiers, 20, promote=True))
    client.drain(PATIENCE_S)
    assert client.pid == before


def test_what_was_asked_is_done_when_training_dies(tiers: Tiers) -> None:
    asked = request(tiers, 10, promote=True)
    # A training process that hands a checkpoint over and is killed at once; its stdout is the promoter's end.
    program = (
        "import json, os, signal, sys\n"
        "from nexa_infra.process import SystemRunner\n"
        "child = SystemRunner().start([sys.executable, '-m', 'nexa_infra.storage.promoter'], output='pipes')\n"
        "child.stdin.write(sys.argv[1].encode())\n"
        "child.stdin.flush()\n"
        "print(child.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    places = {"NEXA_SCRATCH_DIR": tiers.scratch, "NEXA_DURABLE_DIR": tiers.durable, "NEXA_SHARED_DIR": tiers.shared}
    environment = {**os.environ, **{name: str(path) for name, path in places.items()}}
    # The promoter inherits stderr, so the call returns when the promoter has ended too.
    completed = SystemRunner().run(
        [sys.executable, "-c", program, render_line(1, asked).decode()], timeout_s=PATIENCE_S, env=environment
    )
    assert completed.returncode == -signal.SIGKILL, completed.stderr
    while is_running(int(completed.stdout)):
        os.sched_yield()
    verify_seal(tiers.checkpoint(label(10).name))


def test_a_client_that_asks_nothing_starts_nothing(tiers: Tiers, client: PromoterClient) -> None:
    assert client.drain(0) == ()
    assert client.pid is None


def test_the_clients_import_is_light() -> None:
    program = "import sys, json, nexa_infra.storage.promoter_client; print(json.dumps(sorted(sys.modules)))"
    completed = SystemRunner().run([sys.executable, "-c", program], timeout_s=PATIENCE_S).require_success()
    assert {"pydantic", "torch", "numpy"} & set(json.loads(completed.stdout)) == set()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def kill(client: PromoterClient) -> None:
    assert client.pid is not None
    pid = client.pid
    os.kill(pid, signal.SIGKILL)
    while client.pid == pid:
        os.sched_yield()
