from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_contracts import errors
from nexa_contracts.clock import SystemClock
from nexa_contracts.errors import ConfigError, MissingExtra, NexaError, PolicyRefused
from nexa_contracts.exit_codes import NEVER_RETRIED, CommandExit, WorkExit
from nexa_contracts.job import SubmissionRecord
from nexa_contracts.resources import Resources
from nexa_contracts.run import RunConfig
from nexa_contracts.states import FINAL_STATES, JobState
from nexa_contracts.sweep import Axis, Objective, SweepConfig
from nexa_contracts.training import CheckpointConfig, ModelConfig, ScratchModel, TrainingConfig

TRAIN: dict[str, Any] = {"model": {"path": "m"}, "data": {"dataset": "d"}, "training": {"max_steps": 1}}


@given(nodes=st.integers(1, 1000), gpus=st.integers(0, 64), minutes=st.integers(1, 5000))
def test_gpu_hours_are_gpus_times_walltime(nodes: int, gpus: int, minutes: int) -> None:
    resources = Resources(nodes=nodes, gpus_per_node=gpus, walltime=f"{minutes}m")
    assert resources.walltime_s == minutes * 60
    assert resources.gpu_hours == pytest.approx(nodes * gpus * minutes / 60)
    assert resources.world_size == nodes * max(1, gpus)


def test_memory_is_counted_in_bytes() -> None:
    assert Resources(memory="4GiB").memory_bytes == 4 * 2**30


@pytest.mark.parametrize(
    "part",
    [
        {"nodes": 0},
        {"gpus_per_node": -1},
        {"gpus_per_node": 65},
        {"cpus": 0},
        {"memory": "0GiB"},
        {"walltime": "0s"},
        {"gpu": 1},
    ],
)
def test_resources_nobody_can_give_are_refused(part: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="1 validation error"):
        Resources(**part)


@pytest.mark.parametrize(
    "axis",
    [
        {"values": [1, 2]},
        {"choice": ["a"]},
        {"uniform": [0.0, 0.5]},
        {"log_uniform": [1e-4, 1e-2]},
        {"int": [0, 3]},
        {"values": [0]},
        {"values": [False]},
    ],
)
def test_an_axis_of_one_kind_is_taken(axis: dict[str, Any]) -> None:
    assert Axis.model_validate_json(json.dumps(axis)).model_dump(mode="json", exclude_none=True) == axis


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ({}, "exactly one of values, choice, uniform, log_uniform, int; found none"),
        ({"values": [1], "int": [0, 1]}, "found \\['values', 'int'\\]"),
        ({"values": []}, "at least 1 item"),
        ({"uniform": [1, 1]}, "low < high"),
        ({"uniform": [2, 1]}, r"low < high \["),
        ({"uniform": [1.0, 1.0000001]}, "differ in the six digits"),
        ({"uniform": [-1.7e308, 1.7e308]}, "distance is a number a float can hold"),
        ({"uniform": [float("nan"), 1]}, "finite number"),
        ({"uniform": [0, float("inf")]}, "finite number"),
        ({"log_uniform": [0, 1]}, "above 0"),
        ({"log_uniform": [-2, -1]}, "above 0"),
        ({"log_uniform": [1, 1]}, "low < high, or values"),
        ({"log_uniform": [1e-300, 1e300]}, "distance is a number a float can hold"),
        ({"log_uniform": [float("-inf"), 1]}, "finite number"),
        ({"choice": [float("nan")]}, "finite number"),
        ({"int": [3, 1]}, "low < high"),
        ({"int": [0, 2**54]}, "wider than"),
        ({"uniform": [0, 1, 2]}, "at most 2 items"),
        ({"int": [0.5, 2]}, "int"),
    ],
)
def test_an_axis_without_one_clear_range_is_refused(axis: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Axis.model_validate_json(json.dumps(axis))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"base": "x.yaml"}, "exactly one of base and run"),
        ({"search": "random"}, "trials missing"),
        ({"trials": 3}, "trials is for search: random"),
        ({"axes": {"a": {"uniform": [0, 1]}}}, "axes.a: .*a grid needs listed values"),
        ({"axes": {"a": {"choice": ["x", "y", "x"]}}}, "axes.a: .*'x' stands twice"),
        ({"search": "random", "trials": 0}, "greater than or equal to 1"),
        ({"axes": {}}, "at least 1 item"),
        ({"max_parallel": 0}, "greater than or equal to 1"),
    ],
)
def test_a_sweep_that_contradicts_itself_is_refused(part: dict[str, Any], message: str) -> None:
    sweep = {"run": {"command": ["a"]}, "axes": {"params.x": {"values": [1]}}, **part}
    with pytest.raises(ConfigError, match=message):
        SweepConfig.from_json(json.dumps(sweep), source="s")


@given(st.floats(), st.floats())
def test_of_two_metrics_at_most_one_is_better_and_nan_never(one: float, other: float) -> None:
    for direction in ("minimize", "maximize"):
        objective = Objective(direction=direction)
        assert not (objective.is_better(one, other) and objective.is_better(other, one))
        assert not objective.is_better(math.nan, other)
        assert objective.is_better(1.0, math.nan)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({}, "model, data, training missing: give model, data and training, or a command"),
        ({"model": {"path": "m"}}, "data, training missing"),
        ({**TRAIN, "command": ["a"]}, "command excludes model, data, training"),
        ({"command": []}, "at least 1 item"),
        ({"command": ["a\0"]}, "NUL"),
        ({"command": ["a"], "env": {"A": "\0"}}, "NUL"),
        ({"command": ["a", "ä" * 65_536]}, "a word is too long for a program: 131072 bytes, allowed: 131071"),
        ({"command": ["a"], "env": {"A": "x" * 131_070}}, "value of A is too long for a program: 131072 bytes"),
    ],
)
def test_a_run_is_either_training_or_a_command(part: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RunConfig.from_json(json.dumps(part), source="c")


def test_a_training_run_offers_its_training_part_and_a_command_none() -> None:
    config = RunConfig.from_json(json.dumps(TRAIN), source="c")
    assert config.train is not None
    assert config.train.training.max_steps == 1
    assert RunConfig(command=("a",)).train is None


def test_parts_that_must_agree_are_checked_together() -> None:
    with pytest.raises(ValueError, match="exactly one of max_steps and epochs"):
        TrainingConfig()
    with pytest.raises(ValueError, match="exactly one of path and scratch"):
        ModelConfig()
    with pytest.raises(ValueError, match="not a multiple of num_heads"):
        ScratchModel(hidden_size=130, num_heads=4)
    with pytest.raises(ValueError, match="multiple of every_steps"):
        CheckpointConfig(every_steps=10, promote_every_steps=15)


def test_only_states_that_never_change_are_final() -> None:
    assert {state for state in JobState if not state.is_final} == {
        JobState.PENDING,
        JobState.RUNNING,
        JobState.PREEMPTED,
        JobState.UNKNOWN,
    }
    assert len(FINAL_STATES) == 6


def test_an_error_says_what_and_then_what_to_do() -> None:
    assert str(NexaError("x is missing", hint="make x")) == "x is missing; make x"
    assert str(NexaError("x is missing")) == "x is missing"
    refused = PolicyRefused(["a", "b"])
    assert refused.findings == ("a", "b")
    assert str(refused) == "a\nb"
    assert str(MissingExtra("plot", package="matplotlib", needed_for="nexa curves")) == (
        "nexa curves needs the package matplotlib, which is not installed; pip install 'nexa-compute[plot]'"
    )


def test_every_error_leads_to_an_exit_status_of_the_command_line() -> None:
    tree = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, NexaError)]
    assert len(tree) > 15
    assert {cls.exit_code for cls in tree} == {
        CommandExit.FAILED,
        CommandExit.BAD_REQUEST,
        CommandExit.REFUSED,
        CommandExit.EXTERNAL,
    }
    for cls in tree:
        assert cls.__name__ in str(errors.__doc__)


def test_a_wrong_config_and_a_diverged_run_are_not_tried_again() -> None:
    assert {WorkExit.BAD_REQUEST, WorkExit.BAD_CONFIG, WorkExit.DIVERGED} == NEVER_RETRIED
    assert WorkExit.SAVED_AND_LEFT not in NEVER_RETRIED


def test_the_system_clock_is_aware_and_its_monotonic_time_does_not_go_back() -> None:
    clock = SystemClock()
    before = clock.monotonic_s()
    clock.sleep(-1)
    assert clock.monotonic_s() >= before
    assert clock.now().tzinfo is UTC


def test_the_time_of_a_submission_is_a_time_whichever_way_it_was_written() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    record = SubmissionRecord(submission="run_20260102_030405_k3f9", submitted_at=moment, handles=())
    text = record.to_json()
    assert "2026-01-02T03:04:05Z" in text
    earlier = text.replace("05Z", "05+00:00")
    assert SubmissionRecord.from_json(earlier, source="submission.json") == record
    with pytest.raises(ConfigError, match="submitted_at"):
        SubmissionRecord.from_json(text.replace("2026-01-02T03:04:05Z", "yesterday"), source="submission.json")
