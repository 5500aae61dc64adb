"""Expansion and dry run of a sweep of 100,000 points over four axes: `python benchmarks/sweep_expansion.py`.

Beside ours: the product and the generator of the standard library, which check nothing and remember no seed per point,
and scikit-learn's ParameterGrid and ParameterSampler, installed from the registry into `.bench/peers`. Each round is a
process of its own; expansion is timed without imports, a dry run is all of `nexa sweep --dry-run`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

from figures import write_figures

ROOT = Path(__file__).resolve().parent.parent
PEER = "scikit-learn==1.7.2"
FILES = {
    "grid": """\
base: {base}
search: grid
axes:
  training.seed: {{int: [1, 10]}}
  training.batch_size: {{int: [1, 10]}}
  training.warmup_steps: {{int: [1, 10]}}
  model.scratch.num_layers: {{int: [1, 100]}}
""",
    "random": """\
base: {base}
search: random
trials: 100000
axes:
  training.learning_rate: {{log_uniform: [1.0e-4, 1.0e-2]}}
  model.scratch.dropout: {{uniform: [0.0, 0.3]}}
  training.batch_size: {{choice: [4, 8, 16]}}
  training.seed: {{int: [0, 1000000]}}
""",
}
MEASURE = """
import json, resource, time
started = time.process_time()
count = sum(1 for _ in points)
used = time.process_time() - started
print(json.dumps({"points": count, "cpu_s": used, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""
OURS = """
import sys
from pathlib import Path
from nexa_infra.scheduling.sweep import load_sweep
points = load_sweep(Path(sys.argv[1]))[2].points()
"""
LISTED = "a, b, c, d = range(10), range(10), range(10), range(100)\n"
EXPANSIONS = {
    ("grid", "itertools.product"): LISTED
    + "import itertools\npoints = (dict(zip('abcd', values)) for values in itertools.product(a, b, c, d))",
    ("grid", "scikit-learn"): LISTED
    + "from sklearn.model_selection import ParameterGrid\npoints = ParameterGrid({'a': a, 'b': b, 'c': c, 'd': d})",
    ("random", "random.Random"): """
import math, random
draw = random.Random(17)
points = ({"a": math.exp(draw.uniform(math.log(1e-4), math.log(1e-2))), "b": draw.uniform(0.0, 0.3),
           "c": draw.choice([4, 8, 16]), "d": draw.randint(0, 1000000)} for _ in range(100000))
""",
    ("random", "scikit-learn"): """
from scipy.stats import loguniform, randint, uniform
from sklearn.model_selection import ParameterSampler
axes = {"a": loguniform(1e-4, 1e-2), "b": uniform(0.0, 0.3), "c": [4, 8, 16], "d": randint(0, 1000001)}
points = ParameterSampler(axes, n_iter=100000, random_state=17)
""",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    peer = install_peer()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "nexa.yaml").write_text("project: expansion\n")
        figures = {search: measure(search, Path(folder), rounds=rounds, peer=peer) for search in FILES}
    for search, rows in figures.items():
        for name, row in rows.items():
            print(f"{search:7} {name:18} {row['cpu_s_median']:7.3f} s CPU  {row['peak_mib']:6.1f} MiB")
    write_figures("sweep_expansion", {"points": 100_000, "rounds": rounds, **figures})


def measure(search: str, folder: Path, *, rounds: int, peer: str | None) -> dict[str, Any]:
    """Return CPU seconds and peak memory of our expansion, the others', and our dry run, measured in turn."""
    sweep = folder / f"{search}.yaml"
    sweep.write_text(FILES[search].format(base=ROOT / "nexa_train" / "configs" / "tiny.yaml"))
    pythons = {"nexa": sys.executable, "scikit-learn": peer}
    codes = {"nexa": OURS, **{name: code for (kind, name), code in EXPANSIONS.items() if kind == search}}
    seen: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for name, code in codes.items():
            python = pythons.get(name, sys.executable)
            if python is not None:
                done = subprocess.run([python, "-c", code + MEASURE, sweep], capture_output=True, check=True)
                found = json.loads(done.stdout)
                if found["points"] != 100_000:
                    raise SystemExit(f"{name}: {found['points']} points")
                seen.setdefault(name, []).append((found["cpu_s"], found["mib"]))
        seen.setdefault("nexa --dry-run", []).append(dry_run(sweep))
    return {
        name: {
            "cpu_s_median": round(statistics.median(used for used, _ in values), 3),
            "cpu_s_min": round(min(used for used, _ in values), 3),
            "cpu_s_max": round(max(used for used, _ in values), 3),
            "peak_mib": round(max(mib for _, mib in values), 1),
        }
        for name, values in seen.items()
    }


def dry_run(sweep: Path) -> tuple[float, float]:
    """Return CPU seconds and peak MiB of a dry run, as the kernel counts them for the ended process."""
    command = [str(Path(sys.executable).with_name("nexa")), "sweep", str(sweep), "--dry-run"]
    with subprocess.Popen(command, cwd=sweep.parent, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def install_peer() -> str | None:
    """Return the Python that has scikit-learn; None when it cannot be installed."""
    folder = ROOT / ".bench" / "peers" / "scikit-learn"
    python = folder / "bin" / "python"
    marker = folder / "installed"
    if not marker.exists():
        venv.create(folder, with_pip=True, clear=True)
        done = subprocess.run([python, "-m", "pip", "install", "-q", PEER], check=False)
        if done.returncode != 0:
            print(f"{PEER} does not install here; left out")
            return None
        marker.touch()
    return str(python)


if __name__ == "__main__":
    main()
