"""submitit, driven as its documentation shows: `python submitit_driver.py rows N FOLDER | cases FILE FOLDER`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import submitit  # type: ignore[import-not-found]


def do_nothing(row: int) -> int:
    return row


def probe(words: list[str]) -> int:
    return subprocess.run(words, check=False).returncode


def make_executor(folder: Path) -> Any:
    executor = submitit.SlurmExecutor(folder=folder)
    executor.update_parameters(time=10, mem="64MB", cpus_per_task=1)
    return executor


def submit_rows(count: int, folder: Path) -> None:
    started_s = time.perf_counter()
    executor = make_executor(folder)
    executor.update_parameters(array_parallelism=count)
    jobs = executor.map_array(do_nothing, list(range(count)))
    print(json.dumps({"jobs": len(jobs), "in_process_s": time.perf_counter() - started_s}))


def submit_case(case: dict[str, Any], folder: Path) -> None:
    executor = make_executor(folder)
    value, words = case["value"], [*case["probe"], case["out"]]
    match case["channel"]:
        case "environment" | "secret":
            os.environ["PROBE"] = value  # sbatch hands the whole environment on
        case "argument":
            words.append(value)
        case "job name":
            executor.update_parameters(job_name=value)
        case "partition" | "comment" as option:
            executor.update_parameters(**{option: value})
    executor.submit(probe, words)


def main() -> None:
    kind, what, folder = sys.argv[1:]
    if kind == "rows":
        submit_rows(int(what), Path(folder))
        return
    for case in json.loads(Path(what).read_text()):
        os.environ.pop("PROBE", None)
        try:
            submit_case(case, Path(folder) / str(case["number"]))
            print(json.dumps({"number": case["number"], "refused": None}), flush=True)
        except Exception as error:  # noqa: BLE001 - whatever it says is its answer
            print(json.dumps({"number": case["number"], "refused": f"{type(error).__name__}: {error}"}), flush=True)


if __name__ == "__main__":
    main()
