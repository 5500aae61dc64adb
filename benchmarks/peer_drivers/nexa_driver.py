"""NexaCompute, driven through its command line: `python nexa_driver.py cases FILE FOLDER`."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

from nexa_cli.main import main as nexa

SITE_KEYS = ("partition", "account", "qos", "constraint", "python")


def submit_case(case: dict[str, Any], folder: Path) -> str | None:
    """Return what the command line said when it refused, else None."""
    value = case["value"]
    run: dict[str, Any] = {"command": [*case["probe"], case["out"]], "max_retries": 0}
    run["resources"] = {"memory": "64MiB", "walltime": "10m"}
    site: dict[str, Any] = {"backend": "slurm", "slurm": {}}
    words: list[str] = []
    match case["channel"]:
        case "environment":
            run["env"] = {"PROBE": value}
        case "secret":
            run["secrets"] = ["PROBE"]
            os.environ["PROBE"] = value
        case "argument":
            run["command"].append(value)
        case "job name":
            run["name"] = value
        case "comment":
            site["slurm"]["extra"] = [f"--comment={value}"]
        case "option name":
            site["slurm"]["extra"] = [value]
        case "exclude":
            site["slurm"]["exclude"] = [value]
        case "gpu type":
            site["slurm"]["gpu_types"] = {"H100-SXM": value}
            run["resources"] |= {"gpu_type": "H100-SXM", "gpus_per_node": 1}
        case "parameter":
            run["params"] = {"value": value}
        case "parameter by --set":
            words = ["--set", f"params.value={json.dumps(value)}"]  # in quotes, as YAML wants it
        case "tag":
            run["tags"] = {"label": value}
        case "description":
            run["description"] = value
        case key if key in SITE_KEYS:
            site["slurm"][key] = value
    folder.mkdir(parents=True)
    (folder / "nexa.yaml").write_text(json.dumps(site))  # JSON is YAML
    os.chdir(folder)
    if case["channel"] == "axis":
        (folder / "sweep.yaml").write_text(json.dumps({"run": run, "axes": {"params.value": {"values": [value]}}}))
        return call("sweep", "sweep.yaml", "--submit")
    (folder / "run.yaml").write_text(json.dumps(run))
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
    _, what, folder = sys.argv[1:]
    for case in json.loads(Path(what).read_text()):
        os.environ.pop("PROBE", None)
        try:
            refused = submit_case(case, Path(folder) / str(case["number"]))
        except Exception as error:  # noqa: BLE001 - whatever it says is its answer
            refused = f"{type(error).__name__}: {error}"
        print(json.dumps({"number": case["number"], "refused": refused}), flush=True)


if __name__ == "__main__":
    main()
