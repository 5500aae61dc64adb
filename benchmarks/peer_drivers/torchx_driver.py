"""torchx, driven through its runner: `python torchx_driver.py rows N FOLDER | cases FILE FOLDER`."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from torchx import specs  # type: ignore[import-not-found]
from torchx.runner import get_runner  # type: ignore[import-not-found]


def make_app(name: str, words: list[str], env: dict[str, str]) -> Any:
    size = specs.Resource(cpu=1, gpu=0, memMB=64)
    role = specs.Role(name=name, image="", entrypoint=words[0], args=words[1:], env=env, resource=size)
    return specs.AppDef(name=name, roles=[role])


def submit_rows(count: int, folder: Path) -> None:
    os.chdir(folder)
    started_s = time.perf_counter()
    with get_runner() as runner:
        for row in range(count):
            runner.run(make_app("nothing", ["true", str(row)], {}), "slurm", {"time": "10"})
    print(json.dumps({"jobs": count, "in_process_s": time.perf_counter() - started_s}))


def submit_case(runner: Any, case: dict[str, Any]) -> None:
    value, words = case["value"], [*case["probe"], case["out"]]
    name, env, options = "probe", {}, {"time": "10"}
    match case["channel"]:
        case "environment" | "secret":
            env["PROBE"] = value
        case "argument":
            words.append(value)
        case "job name":
            name = value
        case "partition" | "comment" as option:
            options[option] = value
    runner.run(make_app(name, words, env), "slurm", options)


def main() -> None:
    kind, what, folder = sys.argv[1:]
    if kind == "rows":
        submit_rows(int(what), Path(folder))
        return
    with get_runner() as runner:
        for case in json.loads(Path(what).read_text()):
            place = Path(folder) / str(case["number"])
            place.mkdir(parents=True)
            os.chdir(place)  # its logs go to the working folder
            try:
                submit_case(runner, case)
                print(json.dumps({"number": case["number"], "refused": None}), flush=True)
            except Exception as error:  # noqa: BLE001 - whatever it says is its answer
                print(json.dumps({"number": case["number"], "refused": f"{type(error).__name__}: {error}"}), flush=True)


if __name__ == "__main__":
    main()
