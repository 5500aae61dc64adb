from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_contracts.config import apply_point, parse_config
from nexa_contracts.errors import ConfigError
from nexa_contracts.run import RunConfig
from nexa_contracts.yaml_text import parse_yaml
from nexa_infra.scheduling.points import Point, vary

TRAINING = """
model: {scratch: {hidden_size: 64, num_heads: 4}}
data: {dataset: python_stdlib}
training: {max_steps: 10}
checkpoints: {every_steps: 5}
report_to: [tensorboard]
tags: {team: a}
"""
PROGRAM = """
command: ['true', 'false']
params: {lr: 0.1, name: x}
env: {SEED: '1'}
secrets: [TOKEN]
"""
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "training.learning_rate": st.floats(-1, 1) | st.integers(0, 3) | st.text(max_size=3),
    "training.seed": st.integers(-1, 5) | st.booleans() | st.floats(0, 2),
    "training.lr_scheduler": st.sampled_from(["cosine", "linear", "wrong"]),
    "training.max_steps.deep": st.integers(0, 1),
    "model.scratch.hidden_size": st.integers(60, 70),
    "model.scratch.num_heads": st.integers(0, 5),
    "model.path": st.sampled_from(["some/model", ""]),
    "lora.rank": st.integers(0, 4),
    "resources.cpus": st.integers(0, 3),
    "resources.walltime": st.sampled_from(["1h", "1", "90s"]),
    "checkpoints.promote_every_steps": st.integers(1, 20),
    "report_to": st.just("wandb"),
    "command": st.just("true"),
    "params.lr": st.floats() | st.booleans() | st.integers(),
    "params.new": st.text(max_size=3),
    "env.SEED": st.integers(0, 3) | st.text(max_size=3),
    "env.API_KEY": st.just("0123456789abcdef0123456789abcdef"),
    "tags.team": st.text(max_size=3) | st.floats(0, 1),
    "name": st.sampled_from(["fine", "not fine", "-"]) | st.integers(0, 3),
    "max_retries": st.integers(-1, 3),
    "schema_version": st.integers(0, 3),
    "unknown": st.integers(0, 1),
    "training.unknown": st.integers(0, 1),
}


def read(text: str) -> RunConfig:
    return parse_config(parse_yaml(text, source="run.yaml"), RunConfig)


def answer(put: Callable[[], RunConfig]) -> str:
    try:
        return put().to_json()  # where 1, 1.0 and true differ
    except ConfigError as error:
        return str(error)


@pytest.mark.parametrize("text", [TRAINING, PROGRAM])
@given(keys=st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=4, unique=True), data=st.data())
def test_a_point_is_put_into_a_config_as_if_the_whole_were_read_anew(
    text: str, keys: list[str], data: st.DataObject
) -> None:
    config = read(text)
    point: Point = {key: data.draw(VALUES[key], label=key) for key in keys}
    expected = answer(lambda: apply_point(config, point, source="point 0"))
    assert answer(lambda: vary(config, keys)(point, "point 0")) == expected


def test_configs_share_every_part_that_does_not_vary() -> None:
    config = read(TRAINING)
    put = vary(config, ["training.learning_rate", "model.scratch.dropout"])
    one, other = (put({"training.learning_rate": rate, "model.scratch.dropout": 0.1}, "") for rate in (0.1, 0.2))
    assert one.training is not None
    assert one.training.learning_rate == 0.1
    for name in ("data", "resources", "checkpoints"):
        assert getattr(one, name) is getattr(other, name) is getattr(config, name)


def test_putting_a_point_leaves_the_config_as_it_was() -> None:
    config = read(PROGRAM)
    before: Mapping[str, Any] = config.model_dump()
    assert vary(config, ["params.lr", "params.new"])({"params.lr": 1, "params.new": 2}, "").params == {
        "lr": 1,
        "name": "x",
        "new": 2,
    }
    assert config.model_dump() == before
