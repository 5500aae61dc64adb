from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nexa_contracts.run import RunConfig
from nexa_contracts.sweep import Axis, SweepConfig
from nexa_infra.scheduling.adaptive.axes import map_axis, suggest_point
from nexa_infra.scheduling.adaptive.study import create_sampler
from nexa_infra.scheduling.sweep import define_sweep

SCALARS = st.booleans() | st.integers(-9, 9) | st.floats(-5, 5) | st.text(max_size=3)
LISTED = st.lists(SCALARS, min_size=1, max_size=5)


def listed(kind: str, values: list[Any]) -> Axis:
    return Axis(**{kind: tuple(dict.fromkeys(values))})


def ranged(kind: str, low: float, width: float) -> Axis:
    return Axis.model_validate({kind: (low, low + width)})


AXES = st.one_of(
    st.builds(listed, st.sampled_from(["values", "choice"]), LISTED),
    st.builds(lambda low, width: Axis(int=(low, low + width)), st.integers(-(2**40), 2**40), st.integers(1, 2**40)),
    st.builds(ranged, st.just("uniform"), st.floats(-1e6, 1e6), st.floats(10, 1e6)),
    st.builds(ranged, st.just("log_uniform"), st.floats(1e-9, 1e3), st.floats(1, 1e6)),
)


def sweep(axes: dict[str, Axis], *, search: str = "tpe", seed: int = 3) -> SweepConfig:
    run = RunConfig(command=("true",))
    return SweepConfig.model_validate({"run": run, "search": search, "trials": 20, "seed": seed, "axes": axes})


def is_on(axis: Axis, value: Any) -> bool:
    if axis.int is not None:
        return isinstance(value, int) and axis.int[0] <= value <= axis.int[1]
    if axis.listed:
        return any(type(each) is type(value) and each == value for each in axis.listed)
    low, high = axis.uniform or axis.log_uniform or (0.0, 0.0)
    return isinstance(value, float) and low <= value <= high


@given(
    axes=st.dictionaries(st.sampled_from(["params.a", "params.b", "params.c"]), AXES, min_size=1),
    seed=st.integers(0, 99),
)
def test_what_a_study_chooses_is_a_value_of_its_axis(axes: dict[str, Axis], seed: int) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=create_sampler(sweep(axes, seed=seed)))
    for number in range(3):
        trial = study.ask()
        point = suggest_point(trial, axes)
        assert list(point) == list(axes)
        assert all(is_on(axis, point[key]) for key, axis in axes.items())
        assert suggest_point(trial, axes) == point  # asked again, as by a later attempt
        study.tell(trial, float(number))


@given(axis=AXES, index=st.integers(0, 19))
def test_a_point_of_a_random_search_can_be_told_to_a_study(axis: Axis, index: int) -> None:
    from optuna.trial import TrialState, create_trial

    point = define_sweep(sweep({"params.a": axis}, search="random"), source="").point(index)
    trial = create_trial(state=TrialState.RUNNING, params=point, distributions={"params.a": map_axis(axis)})
    assert trial.params == point


def test_members_draw_different_points_and_each_of_them_the_same_again() -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    axes = {"params.x": Axis(uniform=(0.0, 1.0))}

    def draw(index: int, generation: int) -> float:
        study = optuna.create_study(sampler=create_sampler(sweep(axes), index=index, generation=generation))
        return float(suggest_point(study.ask(), axes)["params.x"])

    first = [draw(index, generation) for index in range(5) for generation in range(2)]
    assert first == [draw(index, generation) for index in range(5) for generation in range(2)]
    assert len(set(first)) == len(first)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": "tpe", "axes": {"params.a": Axis(choice=(1, True))}}, "True equals another value"),
        ({"search": "tpe", "axes": {"params.a": Axis(int=(2**53, 2**53 + 9))}}, "keeps numbers as floats"),
        ({"search": "random", "prune_after_steps": 5}, "prune_after_steps is for a pruner"),
        ({"search": "tpe", "trials": None}, "trials missing: a tpe search"),
    ],
)
def test_what_no_study_can_hold_is_refused(changes: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {
        "run": RunConfig(command=("true",)), "trials": 3, "axes": {"params.a": Axis(uniform=(0.0, 1.0))},
    }  # fmt: skip
    with pytest.raises(ValidationError, match=message):
        SweepConfig(**(fields | changes))
