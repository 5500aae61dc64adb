"""Every chunk is handed over exactly once, whatever becomes of us and of Slurm's answers."""

from __future__ import annotations

import json

import pytest

from nexa_contracts.errors import ConfigError, StorageError
from nexa_contracts.states import JobState
from nexa_infra.process import Call
from nexa_infra.scheduling.fence import Owner, claim_run
from nexa_infra.scheduling.slurm.chunks import list_chunks, list_submission
from nexa_infra.scheduling.slurm.client import SlurmRefused, SlurmUnreachable
from nexa_infra.storage.layout import Project
from nexa_infra.testing.backend import STAMP, make_request
from tests.scheduling.slurm.fake_site import GOOD, SWEEP, FakeSite


class PowerCut(BaseException):
    """Ends a launcher between two of its steps."""


def cut(_: Call) -> None:
    raise PowerCut


def test_an_intent_is_on_disk_before_slurm_is_asked(site: FakeSite) -> None:
    seen: list[object] = []
    chunk = site.folder() / "slurm" / "chunk-0.json"
    site.slurm.on_submit = lambda _: seen.append(json.loads(chunk.read_text())["job_id"])
    site.launch(2)
    assert seen == [None]
    assert [each.job_id for each in list_chunks(site.folder())] == ["1"]


def test_a_sweep_larger_than_an_array_becomes_several_with_every_row_once(site: FakeSite) -> None:
    handles = site.launch(25, max_array_size=10)
    assert [job.options["array"] for job in site.slurm.jobs.values()] == ["0-9", "0-9", "0-4"]
    assert [job.arguments[2] for job in site.slurm.jobs.values()] == ["0", "10", "20"]
    assert [handle.job_id for handle in handles[8:12]] == ["1_8", "1_9", "11_0", "11_1"]
    assert len({handle.name for handle in handles}) == 25


def test_an_answer_that_is_lost_is_found_by_the_jobs_name(site: FakeSite) -> None:
    site.slurm.lose_answers = 1
    handles = site.launch(2)
    assert [handle.job_id for handle in handles] == ["1_0", "1_1"]
    assert site.slurm.count("sbatch") == 1


def test_what_never_arrived_is_handed_over_after_two_looks_apart(site: FakeSite) -> None:
    def drop(call: Call) -> None:
        site.slurm.on_submit = lambda _: None
        raise site.slurm.timed_out(call)

    site.slurm.on_submit = drop
    handles = site.launch(1)
    assert [handle.job_id for handle in handles] == ["1_0"]
    assert (site.slurm.count("sbatch"), site.slurm.count("squeue")) == (2, 2)
    assert sum(site.clock.slept_s) >= 3


def test_while_slurm_does_not_answer_nothing_is_handed_over_again(site: FakeSite) -> None:
    plan = site.plan(2)

    def go_down(call: Call) -> None:
        site.slurm.is_down = True
        raise site.slurm.timed_out(call)

    site.slurm.on_submit = go_down
    with pytest.raises(SlurmUnreachable) as caught:
        site.submit(plan)
    assert caught.value.hint == f"nothing was handed over twice; when Slurm answers: nexa sweep --resume {SWEEP}"
    with pytest.raises(SlurmUnreachable):
        site.submit(plan)
    assert site.slurm.count("sbatch") == 1
    site.slurm.is_down, site.slurm.on_submit = False, lambda _: None
    assert site.backend.hand_over_rest(SWEEP) == 2
    assert len(site.slurm.jobs) == 1


def test_a_launcher_killed_after_slurm_took_the_job_leaves_one_job(site: FakeSite) -> None:
    plan = site.plan(2)
    site.slurm.after_submit = cut
    with pytest.raises(PowerCut):
        site.submit(plan)
    site.slurm.after_submit = lambda _: None
    (chunk,) = list_chunks(site.folder())
    assert (chunk.job_id, len(site.slurm.jobs)) == (None, 1)
    assert site.backend.hand_over_rest(SWEEP) == 2
    assert [handle.job_id for handle in site.submit(plan)] == ["1_0", "1_1"]
    assert site.slurm.count("sbatch") == 1


def test_a_look_finds_what_a_killed_launcher_handed_over(site: FakeSite) -> None:
    site.slurm.after_submit = cut
    with pytest.raises(PowerCut):
        site.launch(1)
    run_id = f"run_{STAMP}-000"
    assert site.backend.run_states([run_id])[run_id].state is JobState.PENDING
    assert [chunk.job_id for chunk in list_chunks(site.folder())] == ["1"]


def test_a_launcher_killed_before_slurm_was_asked_leaves_a_job_to_hand_over(site: FakeSite) -> None:
    site.slurm.on_submit = cut
    with pytest.raises(PowerCut):
        site.launch(2)
    site.slurm.on_submit = lambda _: None
    assert site.backend.hand_over_rest(SWEEP) == 2
    assert len(site.slurm.jobs) == 1


def test_a_job_that_slurm_has_forgotten_is_known_by_its_mark_on_disk(site: FakeSite) -> None:
    site.slurm.after_submit = cut
    with pytest.raises(PowerCut):
        site.launch(1)
    site.slurm.run_waiting()
    site.slurm.forget(1)
    site.slurm.after_submit = lambda _: None
    assert site.backend.hand_over_rest(SWEEP) == 1
    assert (site.slurm.count("sbatch"), [chunk.job_id for chunk in list_chunks(site.folder())]) == (1, ["1"])


def test_two_jobs_of_one_name_become_one(site: FakeSite) -> None:
    site.slurm.after_submit = cut
    with pytest.raises(PowerCut):
        site.launch(1)
    job = site.slurm.jobs[1]
    site.slurm.after_submit = lambda _: None
    site.slurm.run(["sbatch", *(f"--{name}={text}" for name, text in job.options.items()), "job.sbatch"], timeout_s=1)
    site.backend.hand_over_rest(SWEEP)
    assert {number: list(each.tasks) for number, each in site.slurm.jobs.items()} == {1: [0], 2: []}


def test_a_refusal_is_told_in_slurms_words_and_leaves_nothing_behind(site: FakeSite) -> None:
    site.slurm.refusal = "Invalid partition name specified"
    with pytest.raises(SlurmRefused, match="Invalid partition name specified"):
        site.launch(2)
    assert list_chunks(site.folder()) == []


def test_of_several_chunks_those_that_were_taken_stay_and_the_others_can_be_planned_anew(site: FakeSite) -> None:
    site.slurm.takes, site.slurm.refusal = 1, "Job violates accounting/QOS policy (job submit limit)"
    with pytest.raises(SlurmRefused, match=r"10 of 25 runs were submitted, in 1 of 3 arrays"):
        site.launch(25, max_array_size=10)
    assert [chunk.job_id for chunk in list_chunks(site.folder())] == ["1"]
    held = site.backend.run_states([f"run_{STAMP}-{index:03d}" for index in range(25)])
    assert len(held) == 10


def test_beyond_the_sites_limit_chunks_wait_until_there_is_room(site: FakeSite) -> None:
    handles = site.launch(25, max_array_size=10, max_submitted=20)
    assert [handle.job_id for handle in handles[19:21]] == ["19_1", ""]
    last = handles[-1].name
    waits = site.backend.run_states([last])[last]
    assert (waits.state, waits.reason) == (
        JobState.PENDING,
        "waits for room: slurm.max_submitted of the site file; `nexa watch` hands it over",
    )
    assert site.backend.hand_over_rest(SWEEP) == 0
    site.slurm.end(1, "COMPLETED")
    assert site.backend.hand_over_rest(SWEEP) == 2
    assert site.backend.hand_over_rest(SWEEP) == 0
    for job_id in list(site.slurm.jobs):
        site.slurm.end(job_id, "COMPLETED")
    assert site.backend.hand_over_rest(SWEEP) == 3
    assert len(site.slurm.jobs) == 13


def test_what_was_cancelled_while_it_waited_for_room_is_not_handed_over(site: FakeSite) -> None:
    handles = site.launch(15, max_array_size=10, max_submitted=10)
    waiting = [handle.name for handle in handles if not handle.job_id]
    assert site.backend.cancel_runs(waiting) == frozenset(waiting)
    assert {state.state for state in site.backend.run_states(waiting).values()} == {JobState.CANCELLED}
    for job_id in list(site.slurm.jobs):
        site.slurm.end(job_id, "COMPLETED")
    assert site.backend.hand_over_rest(SWEEP) == 0
    assert len(site.slurm.jobs) == 10


def test_arrays_of_a_sweep_with_a_limit_take_turns(site: FakeSite) -> None:
    site.launch(25, max_parallel=3, max_array_size=10)
    jobs = list(site.slurm.jobs.values())
    assert [job.options["array"] for job in jobs] == ["0-9%3", "0-9%3", "0-4%3"]
    assert [job.options.get("dependency") for job in jobs] == [None, "afterany:1", "afterany:11"]


def test_rows_packed_into_a_task_share_its_job(site: FakeSite) -> None:
    handles = site.launch(5, rows_per_task=2)
    (job,) = site.slurm.jobs.values()
    assert (job.options["array"], job.arguments[2:4], job.options["time"]) == ("0-2", ("0", "2"), "0-02:00:00")
    assert [handle.job_id for handle in handles] == ["1_0", "1_0", "1_1", "1_1", "1_2"]
    site.slurm.run_waiting()
    assert set(site.backend.states(handles).values()) == {JobState.SUCCEEDED}


def test_rows_that_ask_for_different_things_stand_in_arrays_of_their_own(site: FakeSite) -> None:
    request = make_request(site.root, GOOD, GOOD, GOOD)
    large = request.entries[1].model_copy(
        update={"resources": request.resources.model_copy(update={"memory": "128MiB"})}
    )
    plan = site.backend.plan(
        type(request)(submission=SWEEP, entries={**request.entries, 1: large}, resources=request.resources),
        site.config(),
    )
    site.submit(plan)
    assert [(job.options["array"], job.options["mem"]) for job in site.slurm.jobs.values()] == [
        ("0,2", "64M"),
        ("0", "128M"),
    ]
    assert site.slurm.jobs[3].arguments[2] == "1"


def test_a_secret_that_is_set_nowhere_is_named_before_anything_is_handed_over(site: FakeSite) -> None:
    plan = site.backend.plan(make_request(site.root, GOOD, secrets=("HF_TOKEN",)), site.config())
    assert "HF_TOKEN" in plan.commands[0][4]
    with pytest.raises(ConfigError, match="HF_TOKEN"):
        site.submit(plan)
    assert site.slurm.count("sbatch") == 0


def test_no_value_of_a_run_becomes_part_of_a_command_or_the_script(site: FakeSite) -> None:
    hostile = "'; touch X; $(touch X) `touch X` \n#SBATCH --export=ALL"
    plan = site.backend.plan(make_request(site.root, hostile, environment={"A": hostile}), site.config())
    (command,) = plan.commands
    assert not any("touch" in word for word in command)
    spec, script, batch = (file.text for file in plan.files)
    assert "touch" in spec
    assert "touch" not in script + batch


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("", "{}"),
        ("", "[" * 200_000),
        ('"rows_per_task": 1', '"rows_per_task": 0'),
        ('"offset": 0', '"offset": Infinity'),
        ('"offset": 0', '"offset": -1'),
    ],
)
def test_a_chunk_that_was_edited_by_hand_into_nonsense_is_named(site: FakeSite, right: str, wrong: str) -> None:
    handles = site.launch(1)
    path = site.folder() / "slurm" / "chunk-0.json"
    text = path.read_text()
    assert right in text
    path.write_text(text.replace(right, wrong) if right else wrong)
    with pytest.raises(StorageError, match=r"chunk-0\.json: not a chunk of a submission"):
        site.backend.states(handles)


def test_runs_of_a_resumption_are_found_through_their_manifest(site: FakeSite) -> None:
    site.launch(1)
    later = site.folder() / "resume-20260102_040000_aaaa"
    request = make_request(site.root, GOOD, run_id="run_20260102_040000_aaaa-000")
    plan = site.backend.plan(
        type(request)(submission=SWEEP, entries=request.entries, resources=request.resources, folder=later),
        site.config(),
    )
    later.mkdir()
    for file in plan.files:
        (later / file.path).write_text(file.text)
    (handle,) = site.backend.submit(plan, later)
    manifest = Project(site.root).manifest(handle.name)
    manifest.parent.mkdir(exist_ok=True)
    manifest.write_text(json.dumps({"sweep_id": SWEEP}))
    assert site.backend.states([handle]) == {handle: JobState.PENDING}
    assert [chunk.name for chunk in list_submission(site.folder())] == [
        f"{SWEEP}.c0",
        f"{SWEEP}.resume-20260102_040000_aaaa.c0",
    ]


def test_a_row_that_shares_its_task_can_be_cancelled_until_it_begins(site: FakeSite) -> None:
    handles = site.launch(2, rows_per_task=2)
    second = handles[1].name
    assert site.backend.cancel_runs([second]) == {second}
    assert site.backend.run_states([second])[second].state is JobState.CANCELLED
    site.slurm.run_waiting()
    states = site.backend.states(handles)
    assert [states[handle] for handle in handles] == [JobState.SUCCEEDED, JobState.CANCELLED]


def test_a_row_that_runs_beside_others_is_asked_to_end_and_their_job_is_left_alone(site: FakeSite) -> None:
    first, second = (handle.name for handle in site.launch(2, rows_per_task=2))
    site.slurm.start(1)
    run_dir = Project(site.root).run_dir(first)
    claim_run(run_dir, Owner("fake", "1_0", f"{SWEEP}.c0"), clock=site.clock)
    assert site.backend.cancel_runs([first]) == {first}
    site.backend.pass_on_cancels([first, second])
    assert run_dir.cancel.exists()
    assert not Project(site.root).run_dir(second).cancel.exists()
    assert site.slurm.count("scancel") == 0
    assert site.backend.run_states([first])[first].state is JobState.RUNNING
