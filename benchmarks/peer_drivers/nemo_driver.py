"""NeMo-Run, driven as its documentation shows: `python nemo_driver.py rows N FOLDER | cases FILE FOLDER`."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv[3]).resolve()
os.environ["NEMORUN_HOME"] = str(FOLDER)  # read when it is imported
import nemo_run  # type: ignore[import-not-found]  # noqa: E402


def answer(data: dict[str, Any]) -> None:
    print(json.dumps(data), flush=True)


def make_executor(**options: Any) -> Any:
    return nemo_run.SlurmExecutor(
        account="bench",
        time="00:10:00",
        mem="64M",
        cpus_per_task=1,
        tunnel=nemo_run.LocalTunnel(job_dir=str(FOLDER / "experiments")),
        packager=nemo_run.Packager(),
        poll_estimated_start_time=False,
        **options,
    )


def submit_rows(count: int) -> None:
    started_s = time.perf_counter()
    with nemo_run.Experiment("rows") as experiment:
        for row in range(count):
            experiment.add(nemo_run.Script(inline="true"), executor=make_executor(), name=f"row{row}")
        experiment.run(detach=True)
    answer({"jobs": count, "in_process_s": time.perf_counter() - started_s})


def submit_case(case: dict[str, Any]) -> None:
    value, words = case["value"], [*case["probe"], case["out"]]
    name, options = "probe", {}
    match case["channel"]:
        case "environment" | "secret":
            options["env_vars"] = {"PROBE": value}
        case "argument":
            words.append(value)
        case "job name":
            name = value
        case "partition" | "comment" as option:
            options[option] = value
    script = nemo_run.Script(path=words[1], args=words[2:], entrypoint=words[0])
    with nemo_run.Experiment(f"case{case['number']}") as experiment:
        experiment.add(script, executor=make_executor(**options), name=name)
        experiment.run(detach=True)


def main() -> None:
    kind, what = sys.argv[1:3]
    FOLDER.mkdir(parents=True, exist_ok=True)
    if kind == "rows":
        submit_rows(int(what))
        return
    for case in json.loads(Path(what).read_text()):
        try:
            submit_case(case)
            answer({"number": case["number"], "refused": None})
        except Exception as error:  # noqa: BLE001 - whatever it says is its answer
            answer({"number": case["number"], "refused": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
