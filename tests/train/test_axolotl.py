"""The run config in Axolotl's words: the golden files, and Axolotl's own schema, which must know every key."""

from __future__ import annotations

import json
import stat
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from nexa_contracts.config import load_config, parse_override
from nexa_contracts.errors import ConfigError
from nexa_contracts.exit_codes import WorkExit
from nexa_contracts.run import RunConfig
from nexa_contracts.training import TrainConfig
from nexa_infra.storage.seal import verify_seal
from nexa_train.backends.axolotl_config import AxolotlPaths, render_axolotl
from nexa_train.backends.axolotl_program import Program, find_program
from tests.train.training_site import Site

CONFIGS = Path(__file__).parents[2] / "nexa_train" / "configs"
GOLDEN = Path(__file__).parent / "golden"
CASES = {
    "chat_lora": ("axolotl_lora.yaml", ()),
    "text_scratch": ("baseline.yaml", ("training.backend=axolotl", "report_to=[tensorboard, wandb, mlflow, trackio]")),
    "preference": ("dpo.yaml", ("training.backend=axolotl", "lora.target_modules=[q_proj]", "model.revision=abc")),
}
STAND_IN = """#!{python}
import json, pathlib, sys
config = json.loads(pathlib.Path(sys.argv[2]).read_text())
if sys.argv[1] != "train":
    sys.exit(2)
rows = [json.loads(line) for line in open(config["datasets"][0]["path"])]
if any(sorted(row) != ["text"] for row in rows) or not rows:
    sys.exit(3)
output = pathlib.Path(config["output_dir"])
last = output / "checkpoint-30"
last.mkdir(parents=True)
history = [
    {{"step": 15, "loss": 3.0, "learning_rate": 0.1}},
    {{"step": 30, "loss": 2.0, "learning_rate": 0.0}},
    {{"step": 30, "eval_loss": 2.5}},
]
(last / "trainer_state.json").write_text(json.dumps({{"global_step": 30, "log_history": history}}))
(output / "model.safetensors").write_bytes(b"weights")
(output / "training_args.bin").write_bytes(b"pickle")
"""


def render(case: str) -> dict[str, Any]:
    name, overrides = CASES[case]
    config = load_config(CONFIGS / name, RunConfig, overrides=[parse_override(text) for text in overrides])
    paths = AxolotlPaths(
        base_model=config.model.path if config.model and config.model.path else "checkpoints/base",
        train_file=Path("cache/train.jsonl"),
        eval_file=Path("cache/eval.jsonl"),
        output=Path("checkpoints"),
        prepared=Path("cache/axolotl"),
        resume_from=Path("checkpoints/checkpoint-100"),
    )
    assert config.train is not None
    return render_axolotl(config.train, paths, name=config.name)


@pytest.mark.parametrize("case", sorted(CASES))
def test_the_config_is_the_one_that_was_reviewed(case: str) -> None:
    assert render(case) == json.loads((GOLDEN / f"axolotl_{case}.json").read_text())


def test_axolotl_knows_every_key_and_takes_every_value() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # By name, for Axolotl has no types and is no dependency of ours.
        check = import_module("axolotl.utils.config").validate_config
        wrap = import_module("axolotl.utils.dict").DictDefault
        known = import_module("axolotl.utils.schemas.config").AxolotlInputConfig.model_fields
        datasets = import_module("axolotl.utils.schemas.datasets")

        for case in CASES:
            config = render(case)
            assert set(config) <= set(known), case
            fields = (datasets.DPODataset if case == "preference" else datasets.SFTDataset).model_fields
            assert all(set(data) <= set(fields) for data in (*config["datasets"], *config["test_datasets"])), case
            check(wrap(config))


def test_precision_is_always_said_because_axolotl_would_choose() -> None:
    assert render("text_scratch").items() >= {"bf16": False, "fp16": False, "tf32": False}.items()
    assert render("chat_lora")["bf16"] is True


def test_preferences_without_held_out_rows_are_refused() -> None:
    config = load_config(CONFIGS / "dpo.yaml", RunConfig).train
    assert isinstance(config, TrainConfig)
    paths = AxolotlPaths("m", Path("t"), None, Path("o"), Path("p"))
    with pytest.raises(ConfigError, match="eval_fraction"):
        render_axolotl(config, paths, name="x")


def test_a_missing_program_is_one_line_that_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="NEXA_AXOLOTL"):
        find_program({"PATH": str(tmp_path)})


def test_what_axolotl_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    program = tmp_path / "axolotl"
    write_program(program.with_name("python"), "import sys; sys.exit('this Axolotl does not know new_key')")
    with pytest.raises(ConfigError, match="does not know new_key"):
        Program(program, {}).check_config(tmp_path / "c.yaml")


def test_a_run_goes_through_axolotl_to_durable(site: Site, tmp_path: Path) -> None:
    write_program(tmp_path / "python", "")
    write_program(tmp_path / "axolotl", STAND_IN.format(python=sys.executable))
    base = tmp_path / "model"
    job = site.job("training.backend=axolotl", "model.scratch=null", f"model.path={base}")
    ran = site.train(job, environment={"NEXA_AXOLOTL": str(tmp_path / "axolotl")})
    assert ran.status == WorkExit.DONE
    assert ran.result.metrics == {
        "loss": 2.0,
        "learning_rate": 0.0,
        "eval_loss": 2.5,
        "eval_perplexity": 12.182493960703473,
    }
    assert ran.curve == [(15, 3.0), (30, 2.0)]
    names = {file.path for file in verify_seal(site.tiers.checkpoint(job.run_id)).files}
    assert names == {"model.safetensors", "config.yaml", "logs.json"}


def write_program(path: Path, text: str) -> None:
    path.write_text(text if text.startswith("#!") else f"#!{sys.executable}\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
