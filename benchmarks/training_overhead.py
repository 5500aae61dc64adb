"""What training through NexaCompute costs over the bare Trainer: until the first step, in each step, and while a
checkpoint is promoted.

Ours and the peer take turns, so that what else the machine does hits both alike; figures are ratios of medians:
`python benchmarks/training_overhead.py [--rounds N] [--json FILE]`. Processor seconds stand beside wall seconds,
because they do not move with the load.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from figures import write_figures
from promotion_stall import measure_promotion

from nexa_contracts import env
from nexa_contracts.clock import SystemClock
from nexa_contracts.config import load_config, parse_override
from nexa_contracts.run import RunConfig
from nexa_infra.storage.layout import Tiers
from nexa_infra.storage.run_dir import RunDir
from nexa_infra.storage.sources import ensure_source
from nexa_infra.storage.tiers import init_tiers
from nexa_train.callbacks.base import Callback
from nexa_train.job import Job, read_job

ROOT = Path(__file__).parents[1]
BASELINE = ROOT / "nexa_train" / "configs" / "baseline.yaml"
RUN_ID = "run_20260102_030405_over"
BARE = ROOT / "benchmarks" / "bare_trainer.py"
TIMEOUT_S = 600.0


def main() -> None:
    """Measure, print, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size-mib", type=int, default=500, help="of the promoted checkpoint")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="nexa-overhead-") as name:
        environment = prepare(Path(name))
        figures = {
            "start_to_first_step": measure_start(environment, options.rounds),
            "callbacks_per_step": measure_steps(environment, options.rounds),
            "promotion_stall": measure_promotion(environment, options.rounds, options.size_mib),
        }
    print(json.dumps(figures, indent=2))
    write_figures("training_overhead", {"rounds": options.rounds, **figures}, options.json)


def prepare(folder: Path) -> dict[str, str]:
    """Return the environment of a job in a new site whose caches are warm."""
    clock = SystemClock()
    tiers = Tiers(folder / "scratch", folder / "durable", folder / "shared")
    init_tiers(tiers, clock=clock)
    ensure_source(tiers, "python_stdlib", clock=clock)
    run_dir = RunDir(folder / "runs" / RUN_ID)
    run_dir.attempts.mkdir(parents=True)
    config = load_config(BASELINE, RunConfig, overrides=[parse_override("checkpoints.every_steps=null")])
    run_dir.config.write_text(config.to_json())
    environment = {
        **os.environ,
        env.RUN_ID: RUN_ID,
        env.RUN_DIR: str(run_dir.path),
        env.RUN_CONFIG: str(run_dir.config),
        env.ATTEMPT: "1",
        env.SCRATCH_DIR: str(tiers.scratch),
        env.DURABLE_DIR: str(tiers.durable),
        env.SHARED_DIR: str(tiers.shared),
    }
    run_to_first_step([sys.executable, "-m", "nexa_train.run"], environment)
    return environment


def measure_start(environment: dict[str, str], rounds: int) -> dict[str, Any]:
    """Return how long ours and the bare Trainer take from the start of the process to the end of the first step."""
    cache = Tiers.from_environment(environment).dataloader_cache
    tokens, tokenizer = next(cache.glob("tokens-*/train.bin")), next(cache.glob("tokenizer-*/tokenizer.json"))
    commands = {
        "bare": [sys.executable, str(BARE), str(tokens), str(tokenizer)],
        "ours": [sys.executable, "-m", "nexa_train.run"],
    }
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            seen[name].append(run_to_first_step(command, environment))
    wall = compare({name: [wall_s for wall_s, _ in times] for name, times in seen.items()})
    processor = compare({name: [cpu_s for _, cpu_s in times] for name, times in seen.items()})
    return {"wall_s": wall, "processor_s": processor}


def run_to_first_step(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Return wall and processor seconds until the program says that its first step is done; it is ended then."""
    started_s = time.monotonic()
    child = subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    said = []
    assert child.stderr is not None
    for line in child.stderr:
        said.append(line)
        if "step 1/" in line:
            wall_s = time.monotonic() - started_s
            spent = psutil.Process(child.pid).cpu_times()
            child.kill()
            child.wait(TIMEOUT_S)
            child.stderr.close()
            return wall_s, spent.user + spent.system
    raise SystemExit("".join(said))


def measure_steps(environment: dict[str, str], rounds: int) -> dict[str, Any]:
    """Return the processor time of ten steps and their log with our callbacks and without, by turns in one training."""
    from transformers.trainer_callback import PrinterCallback

    from nexa_train.arguments import training_arguments
    from nexa_train.backends.text import prepare_text

    job = read_job(environment)
    recipe = prepare_text(job)
    arguments = {
        **training_arguments(job, use_cpu=True, has_evaluation=False, is_dense=True),
        "max_steps": 40 + 60 * rounds,
    }
    switch = Switch(our_callbacks(job, recipe))
    trainer = recipe.trainer_class(
        model=recipe.model,
        args=recipe.arguments_class(**arguments, **recipe.arguments),
        train_dataset=recipe.train_data,
        callbacks=[switch],
        **recipe.trainer_options,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    compared = compare(switch.seen)
    # Each ten steps against the ten before them: what changes slowly, the machine's clock for one, is in both.
    pairs = zip(switch.seen["ours"], switch.seen["bare"], strict=False)
    compared["ratio"] = round(statistics.median(ours / bare for ours, bare in pairs), 4)
    inside_ms = switch.inside_s * 1000 / (arguments["max_steps"] / 2)
    # The second figure has no noise of other programs in it: only the time spent within our hooks.
    return {
        "processor_ms_a_step": compared,
        "within_our_hooks_ms_a_step": round(inside_ms, 4),
        "ratio_by_our_hooks": round(1 + inside_ms / compared["bare"], 5),
    }


class Switch(Callback):
    """Passes the hooks on to our callbacks in every other ten steps, and times both kinds."""

    def __init__(self, ours: list[Any]) -> None:
        self.seen: dict[str, list[float]] = {"bare": [], "ours": []}
        self.inside_s = 0.0
        self._ours = ours
        self._started_s = 0.0
        self._is_on = False

    def pass_on(self, event: str, *values: Any, **named: Any) -> None:
        started_s = time.process_time()
        for callback in self._ours if self._is_on else []:
            getattr(callback, event)(*values, **named)
        self.inside_s += time.process_time() - started_s

    def on_train_begin(self, *values: Any, **named: Any) -> None:
        for callback in self._ours:
            callback.on_train_begin(*values, **named)

    def on_step_begin(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        self.pass_on("on_step_begin", args, state, control, **named)
        if state.global_step % 10 == 0:
            now_s = time.process_time()
            if state.global_step > 20:  # the first ones warm up
                self.seen["ours" if self._is_on else "bare"].append((now_s - self._started_s) * 100)
            self._is_on = not self._is_on
            self._started_s = time.process_time()

    def on_step_end(self, *values: Any, **named: Any) -> None:
        self.pass_on("on_step_end", *values, **named)

    def on_log(self, *values: Any, **named: Any) -> None:
        self.pass_on("on_log", *values, **named)


def our_callbacks(job: Job, recipe: Any) -> list[Any]:
    """Return the callbacks of a training, checkpoints left out: what they cost is the third figure."""
    from nexa_train.callbacks.divergence import DivergenceCallback
    from nexa_train.callbacks.fence import FenceCallback
    from nexa_train.callbacks.heartbeat import HeartbeatCallback
    from nexa_train.callbacks.leaving import LeaveCallback
    from nexa_train.callbacks.metrics import Meter, MetricsCallback
    from nexa_train.callbacks.timeline import TimelineCallback
    from nexa_train.signals import LeaveRequest
    from nexa_train.throughput import measure_model
    from nexa_train.timeline import Timeline

    clock = SystemClock()
    meter = Meter(
        recipe.count_tokens, measure_model(recipe.model, block_size=job.train.data.block_size), recipe.reading
    )
    return [
        HeartbeatCallback(job, clock=clock),
        LeaveCallback(LeaveRequest()),
        FenceCallback(job, clock=clock),
        MetricsCallback(job, meter=meter, clock=clock),
        DivergenceCallback(4.0),
        TimelineCallback(Timeline(job, clock=clock)),
    ]


def compare(seen: dict[str, list[float]]) -> dict[str, float]:
    """Return the medians of ours and the bare Trainer, and their ratio."""
    medians = {name: statistics.median(values) for name, values in seen.items()}
    return {
        **{name: round(value, 3) for name, value in medians.items()},
        "ratio": round(medians["ours"] / medians["bare"], 4),
    }


if __name__ == "__main__":
    main()
