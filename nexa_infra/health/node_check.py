"""Prints this node's report as one line of JSON: what runs on the nodes of `nexa health --nodes`.

`node_check REQUEST`, a HealthRequest as JSON. Exits 0 whatever the checks find.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from nexa_contracts.clock import SystemClock
from nexa_contracts.health import HealthRequest
from nexa_infra.health.run import check_node
from nexa_infra.health.sources import Sources
from nexa_infra.process import SystemRunner


def main(arguments: Sequence[str]) -> int:
    """Print the line and return 0."""
    request = HealthRequest.model_validate_json(arguments[0])
    sources = Sources(runner=SystemRunner(), clock=SystemClock(), environment=dict(os.environ))
    report = check_node(sources, request)
    sys.stdout.write(json.dumps(report.model_dump(mode="json")) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
