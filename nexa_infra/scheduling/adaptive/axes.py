"""The axes of a sweep in Optuna's terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

    from nexa_contracts.base import Scalar
    from nexa_contracts.sweep import Axis


def map_axis(axis: Axis) -> BaseDistribution:
    """Return the distribution of an axis; listed values have no order in it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if axis.int is not None:
        return IntDistribution(*axis.int)
    if axis.uniform is not None:
        return FloatDistribution(*axis.uniform)
    if axis.log_uniform is not None:
        return FloatDistribution(*axis.log_uniform, log=True)
    # In a random search a value may stand twice, or beside an equal one of another type; Optuna tells no two apart.
    return CategoricalDistribution(tuple(dict.fromkeys(axis.listed)))


def suggest_point(trial: Trial, axes: Mapping[str, Axis]) -> dict[str, Scalar]:
    """Return a value of every axis as the study's sampler chooses it; what the trial has already stays."""
    return {key: _suggest(trial, key, axis) for key, axis in axes.items()}


def _suggest(trial: Trial, key: str, axis: Axis) -> Scalar:
    if axis.int is not None:
        return trial.suggest_int(key, *axis.int)
    if axis.uniform is not None:
        return trial.suggest_float(key, *axis.uniform)
    if axis.log_uniform is not None:
        return trial.suggest_float(key, *axis.log_uniform, log=True)
    listed = tuple(axis.listed)
    return listed[listed.index(trial.suggest_categorical(key, listed))]
