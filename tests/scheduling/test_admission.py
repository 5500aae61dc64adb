from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nexa_infra.scheduling.admission import Ask, Limits, Running, Waiting, admit, explain_misfit
from nexa_infra.scheduling.machine import Gpu, Machine

GIB = 2**30
MACHINE = Machine(
    cpus=8,
    memory_bytes=64 * GIB,
    gpus=tuple(Gpu(index=index, uuid=f"GPU-{index}", name="x", memory_mib=1) for index in range(4)),
)
EVERYTHING = Limits()


def ask(cpus: int = 1, *, memory_gib: int = 1, gpus: int = 0, share_gpus: bool = False) -> Ask:
    return Ask(cpus=cpus, memory_bytes=memory_gib * GIB, gpus=gpus, share_gpus=share_gpus)


def wait(job_id: int, wanted: Ask, *, longest_s: float = 100.0, limits: Limits = EVERYTHING) -> Waiting:
    return Waiting(job_id=job_id, ask=wanted, limits=limits, longest_s=longest_s)


def ids(waiting: list[Waiting], running: list[Running], *, now_s: float = 0.0) -> list[int]:
    return [each.job_id for each in admit(waiting, running, MACHINE, now_s=now_s)]


asks = st.builds(
    ask, st.integers(1, 8), memory_gib=st.integers(1, 64), gpus=st.integers(0, 4), share_gpus=st.booleans()
)
queues = st.lists(st.tuples(asks, st.floats(1, 1000)), max_size=12)


def let_run(queue: list[tuple[Ask, float]]) -> tuple[list[Waiting], list[Running]]:
    waiting = [wait(number, wanted, longest_s=longest_s) for number, (wanted, longest_s) in enumerate(queue)]
    admitted = admit(waiting, [], MACHINE, now_s=0.0)
    return waiting, [
        Running(ask=waiting[each.job_id].ask, gpus=each.gpus, ends_by_s=waiting[each.job_id].longest_s)
        for each in admitted
    ]


@given(queues)
def test_no_more_is_given_out_than_there_is(queue: list[tuple[Ask, float]]) -> None:
    _, running = let_run(queue)
    assert sum(each.ask.cpus for each in running) <= MACHINE.cpus
    assert sum(each.ask.memory_bytes for each in running) <= MACHINE.memory_bytes
    for gpu in MACHINE.gpus:
        holders = [each for each in running if gpu.index in each.gpus]
        assert len(holders) <= 1 or all(each.ask.share_gpus for each in holders)


@given(queues)
def test_every_job_gets_as_many_gpus_as_it_asked_for(queue: list[tuple[Ask, float]]) -> None:
    _, running = let_run(queue)
    assert all(len(set(each.gpus)) == each.ask.gpus for each in running)


@given(queues)
def test_a_job_that_fits_alone_is_never_left_out_of_an_empty_machine(queue: list[tuple[Ask, float]]) -> None:
    waiting, running = let_run(queue)
    assert running or not waiting


@given(queues, queues)
def test_nobody_who_came_later_delays_the_first_that_has_to_wait(
    first: list[tuple[Ask, float]], later: list[tuple[Ask, float]]
) -> None:
    _, running = let_run(first)
    big = wait(100, ask(8, memory_gib=64, gpus=4))
    if not running:
        return
    admitted = admit(
        [big, *[wait(number, wanted, longest_s=longest_s) for number, (wanted, longest_s) in enumerate(later)]],
        running,
        MACHINE,
        now_s=0.0,
    )
    # It needs the whole machine, so it starts when the last of those who ran before has ended.
    latest_s = max(each.ends_by_s for each in running)
    assert all(later[each.job_id][1] <= latest_s for each in admitted)


def test_jobs_start_in_the_order_they_came() -> None:
    assert ids([wait(1, ask(4)), wait(2, ask(4)), wait(3, ask(4))], []) == [1, 2]


def test_a_short_job_passes_one_that_cannot_start_before_it_ends() -> None:
    running = [Running(ask=ask(6), gpus=(), ends_by_s=100.0)]
    waiting = [wait(1, ask(8)), wait(2, ask(2), longest_s=99.0), wait(3, ask(1), longest_s=101.0)]
    assert ids(waiting, running) == [2]


def test_a_long_job_passes_if_it_takes_only_what_is_left_beside() -> None:
    running = [Running(ask=ask(6), gpus=(), ends_by_s=100.0)]
    assert ids([wait(1, ask(7)), wait(2, ask(1), longest_s=1e6), wait(3, ask(1), longest_s=1e6)], running) == [2]


def test_an_exclusive_job_waits_for_gpus_that_are_shared() -> None:
    running = [Running(ask=ask(gpus=4, share_gpus=True), gpus=(0, 1, 2, 3), ends_by_s=100.0)]
    assert ids([wait(1, ask(gpus=1))], running) == []
    assert ids([wait(1, ask(gpus=1, share_gpus=True))], running) == [1]


def test_sharing_jobs_go_to_the_gpus_with_the_fewest_others() -> None:
    running = [Running(ask=ask(gpus=2, share_gpus=True), gpus=(0, 1), ends_by_s=100.0)]
    (admitted,) = admit([wait(1, ask(gpus=2, share_gpus=True))], running, MACHINE, now_s=0.0)
    assert admitted.gpus == (2, 3)


def test_a_site_uses_no_more_than_it_may() -> None:
    limits = Limits(cpus=2, memory_bytes=8 * GIB, gpus=1)
    assert ids([wait(1, ask(2), limits=limits), wait(2, ask(1), limits=limits), wait(3, ask(1))], []) == [1, 3]
    assert explain_misfit(ask(3), MACHINE, limits) == "resources.cpus: asks for 3 cores, and jobs here may use 2"
    assert "8.0 GiB" in str(explain_misfit(ask(memory_gib=9), MACHINE, limits))
    assert "may use 1" in str(explain_misfit(ask(gpus=2), MACHINE, limits))
    assert explain_misfit(ask(2, memory_gib=8, gpus=1), MACHINE, limits) is None
