"""A promotion struck at every file-system call, and killed at thousands of moments: how often anything is left by half.

Runs `tests/faults/promote_driver.py` over every call of a promotion on one thread with KILL, EIO and ENOSPC, over the
calls that change something with several threads, and with kill -9 at random moments of a promotion and of the promoter:
`python benchmarks/fault_campaign.py [--kills N] [--json FILE]`. Needs strace. Takes about half an hour.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from figures import write_figures

from nexa_contracts.clock import SystemClock
from nexa_infra.process import SystemRunner

CLOCK = SystemClock()
DRIVER = Path(__file__).parents[1] / "tests" / "faults" / "promote_driver.py"
TIMEOUT_S = 6 * 3600.0


def main() -> int:
    """Strike, print a line a campaign, write the figures; return 1 when anything was left by half."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="random moments, for each of the two")
    parser.add_argument("--every", type=int, default=1, help="strike at every n-th call only")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    every, kills = ("--every", str(options.every)), ("--rounds", str(options.kills))
    campaigns = {
        "every call, one thread": ("--all-calls", *every),
        "calls that change something, several threads": ("--files", "5", *every),
        "kill -9 of a promotion": ("--mode", "kills", *kills),
        "kill -9 of the promoter": ("--mode", "promoter-kills", *kills),
    }
    results = {name: run(name, words) for name, words in campaigns.items()}
    write_figures("fault_campaign", {"campaigns": results}, options.json)
    return 1 if any(result["with_problems"] for result in results.values()) else 0


def run(name: str, words: tuple[str, ...]) -> dict[str, Any]:
    """Return what one campaign found: its counts, and every round with a problem."""
    started_s = CLOCK.monotonic_s()
    with tempfile.TemporaryDirectory(prefix="nexa-faults-") as folder:
        completed = SystemRunner().run([sys.executable, str(DRIVER), folder, *words], timeout_s=TIMEOUT_S)
    rounds = [json.loads(line) for line in completed.stdout.splitlines()]
    if not rounds or "summary" not in rounds[-1]:
        raise SystemExit(f"{name}: the driver did not finish: {completed.stderr[-2000:]}")
    counts = dict(rounds.pop()["summary"])
    faulty = [each for each in rounds if each["problems"]]
    seconds = round(CLOCK.monotonic_s() - started_s, 1)
    # None of n says that the true share is below 3/n with 95 % confidence, and no more (the rule of three).
    bound = round(3 / len(rounds), 4) if not faulty else None
    print(f"{name}: {len(faulty)} of {len(rounds)} by half, in {seconds:.0f} s")
    for each in faulty:
        print(f"  {each['strike']}: {'; '.join(each['problems'])}")
    return {**counts, "with_problems": len(faulty), "below_at_95": bound, "faulty": faulty, "seconds": seconds}


if __name__ == "__main__":
    sys.exit(main())
