from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_contracts.base import Contract
from nexa_contracts.config import apply_point, find_model, load_config, parse_config, parse_override
from nexa_contracts.errors import ConfigError, NotFound, UnsupportedSchema
from nexa_contracts.run import RunConfig
from nexa_contracts.site import SiteConfig, SitePrice
from nexa_contracts.sweep import Axis, SweepConfig
from nexa_contracts.training import ScratchModel
from nexa_contracts.yaml_text import parse_yaml

GOLDEN = Path(__file__).parent / "golden"
COMMAND = "command: [python, x.py]\n"
SWEEP = "run: {command: [a]}\n"
AXIS_KEYS = "values, choice, uniform, log_uniform, int"


def read(text: str, *overrides: str, schema: type[Contract] = RunConfig) -> Any:
    document = parse_yaml(text, source="c.yaml")
    return parse_config(document, schema, overrides=[parse_override(override) for override in overrides])


def error_of(text: str, *overrides: str, schema: type[Contract] = RunConfig) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, *overrides, schema=schema)
    return str(caught.value).splitlines()


def test_a_config_with_many_mistakes_gets_one_line_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    with pytest.raises(ConfigError) as caught:
        load_config(Path("bad_run.yaml"), RunConfig, overrides=[parse_override("resources.nodes=none")])
    assert str(caught.value) == Path("bad_run.txt").read_text(encoding="utf-8").rstrip("\n")


@pytest.mark.parametrize(
    ("text", "schema", "lines"),
    [
        (
            COMMAND + "params: {x: [1]}",
            RunConfig,
            ["c.yaml:2: params.x: found a list; allowed: true or false, a whole number, a number, a text"],
        ),
        (
            COMMAND + "lora: {target_modules: 5}",
            RunConfig,
            ["c.yaml:2: lora.target_modules: found 5; allowed: a list, all-linear"],
        ),
        (
            COMMAND + "lora: {target_modules: [5]}",
            RunConfig,
            ["c.yaml:2: lora.target_modules.0: found 5; allowed: a text"],
        ),
        (
            COMMAND + "resources:\n",
            RunConfig,
            ["c.yaml:2: resources: found nothing; allowed: a mapping of keys to values"],
        ),
        (
            COMMAND + 'env: {A: "x\\0"}',
            RunConfig,
            ["c.yaml:2: env: the value of A holds a NUL byte, which no environment can"],
        ),
        (
            SWEEP + "axes: {lr: {valuess: [1]}}",
            SweepConfig,
            [f"c.yaml:2: axes.lr.valuess: unknown key; did you mean values? allowed: {AXIS_KEYS}"],
        ),
        (SWEEP + "axes: {lr: {int: 5}}", SweepConfig, ["c.yaml:2: axes.lr.int: found 5; allowed: a list"]),
        (
            SWEEP + "axes: {lr: {values: []}}",
            SweepConfig,
            ["c.yaml:2: axes.lr.values: found an empty list; allowed: a list or mapping of 1 or more"],
        ),
        (
            SWEEP + "axes: {lr: {values: [[]]}}",
            SweepConfig,
            [
                "c.yaml:2: axes.lr.values.0: found an empty list; "
                "allowed: true or false, a whole number, a number, a text"
            ],
        ),
        (
            SWEEP + "axes: {}",
            SweepConfig,
            ["c.yaml:2: axes: found an empty mapping; allowed: a list or mapping of 1 or more"],
        ),
        (
            "prices:\n  cpu: {hourlyy: 1}",
            SiteConfig,
            [
                "c.yaml:2: prices.cpu.hourly: missing; this key is required",
                "c.yaml:2: prices.cpu.hourlyy: unknown key; did you mean hourly? allowed: hourly, source, as_of",
            ],
        ),
        (
            "[]",
            SiteConfig,
            [
                "c.yaml:1: found an empty list; allowed: a mapping with the keys "
                "project, tiers, backend, prices, local, slurm, health"
            ],
        ),
    ],
)
def test_a_wrong_value_is_one_line_with_place_finding_and_rule(
    text: str, schema: type[Contract], lines: list[str]
) -> None:
    assert error_of(text, schema=schema) == lines


@pytest.mark.parametrize("name", ["a/b", "..", "a\\nb", 'a\\"b', "😀", "", "a b"])
def test_a_name_that_is_not_safe_as_a_path_is_refused(name: str) -> None:
    [line] = error_of(COMMAND + f'name: "{name}"\n')
    assert line.startswith("c.yaml:2: name: found ")
    assert "allowed: 1 to 63 of A-Z a-z 0-9 . _ -" in line


@pytest.mark.parametrize("text", ["", "# nothing here\n"])
def test_an_empty_file_is_told_which_keys_there_are(tmp_path: Path, text: str) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="the file is empty; allowed: the keys name, description, resources"):
        load_config(path, RunConfig)


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        load_config(tmp_path / "none.yaml", RunConfig)


def test_a_config_for_a_newer_version_is_refused_as_such() -> None:
    with pytest.raises(UnsupportedSchema, match="schema_version 2; this version reads up to 1; upgrade"):
        read(COMMAND + "schema_version: 2\n")


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("name=123", "name", "123"),
        ("name=0777", "name", "0777"),
        ("max_retries=3", "max_retries", 3),
        ("description=a: b", "description", "a: b"),
        ("description=about #5", "description", "about #5"),
        ("description=#5", "description", "#5"),
        ("description=no", "description", "no"),
        ("description='quoted'", "description", "quoted"),
        ("command=[sh, -c, x]", "command", ("sh", "-c", "x")),
        ("params.x=yes", "params", {"x": "yes"}),
        ("params.x=1e-4", "params", {"x": 1e-4}),
        ("params.x=true", "params", {"x": True}),
        ("tags.team=42", "tags", {"team": "42"}),
        ("env.A=1", "env", {"A": "1"}),
    ],
)
def test_an_override_has_the_type_its_key_asks_for(override: str, key: str, value: Any) -> None:
    found = getattr(read(COMMAND, override), key)
    assert found == value
    assert type(found) is type(value)


def test_an_override_makes_the_mappings_on_its_way() -> None:
    config = read(COMMAND, "resources.gpus_per_node=2", "lora.rank=4")
    assert config.resources.gpus_per_node == 2
    assert config.lora.rank == 4


def test_the_last_override_of_a_key_holds() -> None:
    assert read(COMMAND + "max_retries: 5\n", "max_retries=1", "max_retries=2").max_retries == 2


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("max_retries=abc", "--set max_retries=abc: max_retries: found 'abc'; allowed: a whole number"),
        ("resources.nodes=1e0", "--set resources.nodes=1e0: resources.nodes: found 1.0; allowed: a whole number"),
        ("resources=3", "--set resources=3: resources: found 3; allowed: a mapping of keys to values"),
        ("command.0=x", "--set command.0=x: command: found a mapping; allowed: a list"),
        ("name.x=1", "--set name.x=1: name: found a mapping; allowed: a text"),
        ("local.cpu=1", "--set local.cpu=1: local: unknown key; did you mean lora? allowed: name, "),
        (
            "resources.gpu_per_node=1",
            "--set resources.gpu_per_node=1: resources.gpu_per_node: unknown key; did you mean gpus_per_node?",
        ),
        ("walltime=2m", "--set walltime=2m: walltime: unknown key; did you mean resources.walltime? allowed: name, "),
        (
            "training.walltime=2m",
            "--set training.walltime=2m: training.walltime: unknown key; did you mean resources.walltime? allowed: ",
        ),
        ("vocab_size=9", "--set vocab_size=9: vocab_size: unknown key; did you mean model.scratch.vocab_size? "),
        (
            "resources.memory=4",
            "--set resources.memory=4: resources.memory: found '4'; allowed: a size such as 512MiB or 4GiB",
        ),
    ],
)
def test_a_wrong_override_is_named_as_it_was_typed(override: str, line: str) -> None:
    [found] = error_of(COMMAND, override)
    assert found.startswith(line)


@pytest.mark.parametrize("text", ["name", "=x", "a..b=1", ".a=1", "a.=1", ""])
def test_an_override_without_a_key_or_a_value_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_override(text)
    assert str(caught.value) == f"--set {text}: found no key=value; allowed: --set training.learning_rate=3e-4"


def test_a_wrong_value_of_an_option_is_named_as_it_was_typed() -> None:
    override = parse_override("search=tpee", option="--search")
    with pytest.raises(ConfigError) as caught:
        parse_config(parse_yaml("axes: {}", source="s.yaml"), SweepConfig, overrides=[override])
    assert any(line.startswith("--search tpee: search: found 'tpee'") for line in str(caught.value).splitlines())


def test_a_point_is_set_with_its_types_and_judged_by_the_schema() -> None:
    config = read(COMMAND + "params: {lr: 0.1}\n")
    assert apply_point(config, {"params.lr": 0.5, "max_retries": 0}, source="sweep.yaml").params == {"lr": 0.5}
    with pytest.raises(ConfigError, match="did you mean max_retries"):
        apply_point(config, {"max_retry": 1}, source="sweep.yaml")


@given(retries=st.integers(0, 1000), name=st.from_regex(r"[A-Za-z0-9]{1,20}", fullmatch=True))
def test_applying_a_point_changes_only_its_keys(retries: int, name: str) -> None:
    config = read(COMMAND)
    changed = apply_point(config, {"max_retries": retries, "name": name}, source="s")
    assert changed == config.model_copy(update={"max_retries": retries, "name": name})


def test_the_model_at_a_key_path_is_found_through_mappings_and_options() -> None:
    assert find_model(RunConfig, ("model", "scratch")) is ScratchModel
    assert find_model(SweepConfig, ("axes", "training.learning_rate")) is Axis
    assert find_model(SiteConfig, ("prices", "cpu")) is SitePrice
    assert find_model(SweepConfig, ("axes",)) is None
    assert find_model(RunConfig, ("params", "x")) is None
    assert find_model(RunConfig, ("nothing", "here")) is None


@pytest.mark.parametrize(
    ("text", "override"), [(COMMAND, "schema_version=2"), (SWEEP + "name: s\n", "run.schema_version=2")]
)
def test_an_override_cannot_make_a_record_that_this_version_does_not_read(text: str, override: str) -> None:
    schema: type[Contract] = RunConfig if text is COMMAND else SweepConfig
    wrong = [line for line in error_of(text, override, schema=schema) if "schema_version" in line]
    assert wrong == [f"--set {override}: {override[:-2]}: found 2; this version of nexa-compute reads up to 1"]
