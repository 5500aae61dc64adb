"""NexaCompute, driven from Python and through its command line: `python nexa_driver.py rows SWEEP FOLDER | cases FILE
FOLDER`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from nexa_cli.main import main as nexa
from nexa_infra.operations.launch import launch_slurm_sweep


def submit_rows(sweep: str, folder: str) -> None:
    os.chdir(folder)
    started_s = time.perf_counter()
    launched = launch_slurm_sweep(Path(sweep), submit=True)
    print(json.dumps({"jobs": launched.job_count, "in_process_s": time.perf_counter() - started_s}))


def describe_run(case: dict[str, Any]) -> dict[str, Any]:
    """Return the run's config with the case's text in it, where it belongs to the config."""
    value, command = case["value"], [*case["probe"], case["out"]]
    run: dict[str, Any] = {"command": command, "max_retries": 0}
    run["resources"] = {"memory": "64MiB", "walltime": "10m"}
    own: dict[str, dict[str, Any]] = {
        "environment": {"env": {"PROBE": value}},
        "secret": {"secrets": ["PROBE"]},
        "argument": {"command": [*command, value]},
        "job name": {"name": value},
        "gpu type": {"resources": run["resources"] | {"gpu_type": "H100-SXM", "gpus_per_node": 1}},
        "parameter": {"params": {"value": value}},
        "tag": {"tags": {"label": value}},
        "description": {"description": value},
    }
    return run | own.get(case["channel"], {})


def describe_slurm(case: dict[str, Any]) -> dict[str, Any]:
    """Return the site's keys for Slurm with the case's text in them, where it belongs to the site."""
    value = case["value"]
    own: dict[str, dict[str, Any]] = {
        "comment": {"extra": [f"--comment={value}"]},
        "option name": {"extra": [value]},
        "exclude": {"exclude": [value]},
        "gpu type": {"gpu_types": {"H100-SXM": value}},
        **{key: {key: value} for key in ("partition", "account", "qos", "constraint", "python")},
    }
    return own.get(case["channel"], {})


def submit_case(case: dict[str, Any], folder: Path) -> str | None:
    """Return what the command line said when it refused, else None."""
    run, value = describe_run(case), case["value"]
    folder.mkdir(parents=True)
    (folder / "nexa.yaml").write_text(json.dumps({"backend": "slurm", "slurm": describe_slurm(case)}))  # JSON is YAML
    os.chdir(folder)
    if case["channel"] == "secret":
        os.environ["PROBE"] = value
    if case["channel"] == "axis":
        (folder / "sweep.yaml").write_text(json.dumps({"run": run, "axes": {"params.value": {"values": [value]}}}))
        return call("sweep", "sweep.yaml", "--submit")
    (folder / "run.yaml").write_text(json.dumps(run))
    # In quotes, as YAML wants it.
    words = ["--set", f"params.value={json.dumps(value)}"] if case["channel"] == "parameter by --set" else []
    return call("launch", "run.yaml", "--detach", *words)


def call(*words: str) -> str | None:
    said = io.StringIO()
    status: object = 0
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            nexa(list(words))
        except SystemExit as end:
            status = end.code
    return None if status == 0 else said.getvalue()


def main() -> None:
    kind, what, folder = sys.argv[1:]
    if kind == "rows":
        submit_rows(what, folder)
        return
    for case in json.loads(Path(what).read_text()):
        os.environ.pop("PROBE", None)
        try:
            refused = submit_case(case, Path(folder) / str(case["number"]))
        except Exception as error:  # noqa: BLE001 - whatever it says is its answer
            refused = f"{type(error).__name__}: {error}"
        print(json.dumps({"number": case["number"], "refused": refused}), flush=True)


if __name__ == "__main__":
    main()
