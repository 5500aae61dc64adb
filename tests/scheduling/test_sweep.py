from __future__ import annotations

import itertools
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_contracts.config import parse_override
from nexa_contracts.errors import ConfigError, NotFound
from nexa_contracts.run import RunConfig
from nexa_contracts.sweep import Axis, SweepConfig
from nexa_infra.scheduling.sweep import Search, SweepDefinition, define_sweep, load_sweep
from nexa_infra.testing.sweeps import SearchContract

BASE = """
name: tiny
model: {scratch: {hidden_size: 128, num_heads: 4}}
data: {dataset: python_stdlib}
training: {max_steps: 10}
"""
RUN = RunConfig(command=("true",))
PUBLISHED = [
    {"params.lr": 0.00184538, "params.n": 76},
    {"params.lr": 0.000114941, "params.n": 83},
    {"params.lr": 0.00369571, "params.n": 27},
]


def grid(axes: dict[str, Axis]) -> SweepDefinition:
    return define_sweep(SweepConfig(run=RUN, axes=axes), source="sweep.yaml")


def random(axes: dict[str, Axis], *, trials: int = 8, seed: int = 17) -> SweepDefinition:
    config = SweepConfig(run=RUN, search="random", trials=trials, seed=seed, axes=axes)
    return define_sweep(config, source="sweep.yaml")


def write(tmp_path: Path, axes: str, *, rest: str = "base: base.yaml") -> Path:
    (tmp_path / "base.yaml").write_text(BASE)
    path = tmp_path / "sweep.yaml"
    path.write_text(f"{rest}\naxes:\n{axes}\n")
    return path


class TestGrid(SearchContract):
    KEYS = frozenset({"params.a", "params.b"})

    def make_search(self) -> Search:
        return grid({"params.a": Axis(values=(1, 2)), "params.b": Axis(int=(1, 3))})


class TestRandom(SearchContract):
    KEYS = frozenset({"params.a", "params.b"})

    def make_search(self) -> Search:
        return random({"params.a": Axis(uniform=(0.0, 1.0)), "params.b": Axis(choice=("x", "y"))})


axis_lists = st.lists(st.lists(st.integers(), min_size=1, max_size=4, unique=True), min_size=1, max_size=4)


@given(axis_lists)
def test_a_grid_is_the_product_with_the_last_axis_fastest(lists: list[list[int]]) -> None:
    axes = {f"params.p{number}": Axis(values=tuple(values)) for number, values in enumerate(lists)}
    definition = grid(axes)
    expected = [dict(zip(axes, values, strict=True)) for values in itertools.product(*lists)]
    assert list(definition.points()) == expected
    assert len(definition) == len(expected)


def differ(pair: tuple[float, float]) -> bool:
    return pair[0] < pair[1] and f"{pair[0]:.6g}" != f"{pair[1]:.6g}"


ranges = st.tuples(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9)).filter(differ)


@given(ranges, st.integers(0, 2**32 - 1), st.integers(0, 10_000))
def test_samples_stay_within_their_bounds(bounds: tuple[float, float], seed: int, index: int) -> None:
    axes = {"params.u": Axis(uniform=bounds), "params.l": Axis(log_uniform=bounds), "params.i": Axis(int=(-3, 3))}
    point = random(axes, trials=10_001, seed=seed).point(index)
    assert bounds[0] <= float(point["params.u"]) <= bounds[1]
    assert bounds[0] <= float(point["params.l"]) <= bounds[1]
    assert point["params.i"] in range(-3, 4)


def test_more_trials_and_more_axes_keep_the_points_there_were() -> None:
    lr = {"params.lr": Axis(log_uniform=(1e-5, 1e-2))}
    few, many = random(lr, trials=3), random(lr, trials=3_000)
    wider = random({"params.other": Axis(uniform=(0.0, 1.0)), **lr}, trials=3)
    assert list(few.points()) == [many.point(index) for index in range(3)]
    assert [point["params.lr"] for point in wider.points()] == [point["params.lr"] for point in few.points()]


def test_samples_are_the_ones_that_were_published() -> None:
    # A change of these numbers would change every sweep that is launched again from its file.
    definition = random({"params.lr": Axis(log_uniform=(1e-5, 1e-2)), "params.n": Axis(int=(1, 100))}, trials=3)
    assert list(definition.points()) == PUBLISHED


def test_axes_are_sampled_jointly_and_evenly() -> None:
    definition = random({"params.a": Axis(choice=(0, 1)), "params.b": Axis(choice=(0, 1))}, trials=4_000)
    counts = dict.fromkeys(itertools.product((0, 1), repeat=2), 0)
    for point in definition.points():
        counts[int(point["params.a"]), int(point["params.b"])] += 1
    # 4,000 draws of four cells: six standard deviations are 164.
    assert all(abs(count - 1_000) < 164 for count in counts.values())


def test_seeds_differ() -> None:
    axes = {"params.a": Axis(uniform=(0.0, 1.0))}
    assert random(axes, seed=1).point(0) != random(axes, seed=2).point(0)


@pytest.mark.parametrize("index", [-1, 8])
def test_there_is_no_point_outside(index: int) -> None:
    with pytest.raises(IndexError):
        random({"params.a": Axis(uniform=(0.0, 1.0))}).point(index)


def test_a_huge_sweep_is_not_held_in_memory() -> None:
    definition = grid({"params.a": Axis(int=(1, 1_000)), "params.b": Axis(int=(1, 10_000))})
    assert len(definition) == 10_000_000
    assert definition.point(9_999_999) == {"params.a": 1_000, "params.b": 10_000}


@pytest.mark.parametrize("search", ["grid", "random"])
def test_points_are_made_one_at_a_time(search: str) -> None:
    axes = {f"params.p{number}": Axis(int=(1, 10)) for number in range(4)}
    definition = grid(axes) if search == "grid" else random(axes, trials=10_000)
    tracemalloc.start()
    try:
        count = sum(1 for _ in definition.points())
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 10_000
    assert peak_bytes < 20_000  # one point is 0.5 KB; all of them are 4 MB


@pytest.mark.parametrize(
    ("axis", "said"),
    [
        ("training.learning_rat: {values: [1e-4]}", "unknown key; did you mean training.learning_rate?"),
        ("trainin.learning_rate: {values: [1e-4]}", "unknown key; did you mean training?"),
        ("training.learning_rate: {values: [1e-4, -1]}", "found -1; allowed: "),
        ("training.learning_rate: {values: [fast]}", "found 'fast'; allowed: a number"),
        ("training.warmup_steps: {int: [-1, 5]}", "found -1; allowed: "),
        ("model.scratch.num_heads: {values: [4, 5]}", "5: model.scratch: hidden_size 128 is not a multiple"),
        ("training.seed: {values: [1, 1]}", "1 stands twice"),
    ],
)
def test_a_wrong_axis_ends_in_one_line_with_its_place(tmp_path: Path, axis: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_sweep(write(tmp_path, f"  {axis}"))
    (line,) = caught.value.message.splitlines()
    assert "sweep.yaml" in line
    assert f"axes.{axis.partition(':')[0]}: " in line
    assert said in line


def test_every_wrong_axis_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    axes = """\
  training.seed: {uniform: [.nan, 1]}
  training.weight_decay: {uniform: [0.1, 0.1]}
  training.learning_rate: {log_uniform: [0, 1]}
  training.max_grad_norm: {log_uniform: [-1, 1]}
  training.batch_sizes: {choice: [1, 2]}
  training.optimizer: {choice: [sgd, adam, lion]}
  model.scratch.num_heads: {choice: [4, -1]}
  model.scratch: {choice: [1]}"""
    with pytest.raises(ConfigError) as caught:
        load_sweep(write(tmp_path, axes, rest="base: base.yaml\nsearch: random\ntrials: 3"))
    assert [line.partition("sweep.yaml:")[2].partition(" ")[0] for line in caught.value.message.splitlines()] == [
        "5:", "6:", "7:", "8:", "9:", "10:", "10:", "11:", "12:",
    ]  # fmt: skip


def test_axes_are_told_beside_what_else_is_wrong_with_the_file_and_its_base(tmp_path: Path) -> None:
    path = write(tmp_path, "  training.seeds: {values: [1]}", rest="base: base.yaml\nmax_parallel: 0")
    (tmp_path / "base.yaml").write_text(BASE + "colour: red\n")
    with pytest.raises(ConfigError) as caught:
        load_sweep(path)
    assert [
        found for found in ("max_parallel: found 0", "colour: unknown", "axes.training.seeds: unknown")
        if found in caught.value.message
    ] == ["max_parallel: found 0", "colour: unknown", "axes.training.seeds: unknown"]  # fmt: skip


def test_a_missing_base_is_told_beside_wrong_axes(tmp_path: Path) -> None:
    path = write(tmp_path, "  training.seed: {values: [1, 1]}", rest="base: nowhere.yaml")
    with pytest.raises(ConfigError, match=r"1 stands twice(.|\n)*nowhere.yaml: no such file"):
        load_sweep(path)
    with pytest.raises(NotFound, match="nowhere"):
        load_sweep(write(tmp_path, "  training.seed: {values: [1]}", rest="base: nowhere.yaml"))


def test_a_value_is_not_blamed_while_the_axis_it_needs_cannot_be_read(tmp_path: Path) -> None:
    axes = "  model.scratch.hidden_size: {values: [120, x]}\n  model.scratch.num_heads: {values: [3, 5]}"
    path = write(tmp_path, f"{axes}\n  training.seed: {{int: [1, 1]}}")
    with pytest.raises(ConfigError) as caught:
        load_sweep(path)
    assert "num_heads" not in caught.value.message
    assert "axes.model.scratch.hidden_size: found 'x'" in caught.value.message


def test_values_that_fit_only_together_are_accepted(tmp_path: Path) -> None:
    axes = "  model.scratch.hidden_size: {values: [120, 240]}\n  model.scratch.num_heads: {values: [3, 5]}"
    _, _, definition = load_sweep(write(tmp_path, axes))
    assert len(definition) == 4


def test_plain_data_may_be_swept_by_any_name(tmp_path: Path) -> None:
    rest = "run: {command: ['true'], params: {lr: 1}}"
    _, base, definition = load_sweep(write(tmp_path, "  params.lr: {values: [1, 2.5, x]}", rest=rest))
    assert base.params == {"lr": 1}
    assert [point["params.lr"] for point in definition.points()] == [1, 2.5, "x"]


@pytest.mark.parametrize("rest", ["base: base.yaml", "run: {command: ['true']}"])
def test_overrides_go_to_the_sweep_if_it_has_the_key_and_else_to_the_base(tmp_path: Path, rest: str) -> None:
    path = write(tmp_path, "  max_retries: {uniform: [0, 1]}", rest=f"{rest}\nsearch: random\ntrials: 9")
    path.write_text(path.read_text().replace("uniform", "int"))
    overrides = [parse_override(text) for text in ("trials=4", "description=mine", "resources.cpus=3")]
    config, base, definition = load_sweep(path, overrides)
    assert (config.trials, len(definition)) == (4, 4)
    assert (config.description, base.description) == ("mine", "")
    assert base.resources.cpus == 3


def test_an_axis_cannot_be_overridden_in_part(tmp_path: Path) -> None:
    path = write(tmp_path, "  training.seed: {values: [1, 2]}")
    with pytest.raises(ConfigError, match="has dots of its own"):
        load_sweep(path, [parse_override("axes.training.seed.values=[3]")])
    override = parse_override("axes={training.seed: {values: [3]}}")
    assert list(load_sweep(path, [override])[2].points()) == [{"training.seed": 3}]


def test_a_grid_beyond_all_reason_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "  training.seed: {int: [0, 10000000]}")
    with pytest.raises(ConfigError, match="10000001 points; allowed: at most 10000000"):
        load_sweep(path)
