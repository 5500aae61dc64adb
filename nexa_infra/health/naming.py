"""What a node is called; apart from the checks, because those who only need the name must not load them."""

from __future__ import annotations

from collections.abc import Mapping


def own_name(environment: Mapping[str, str], hostname: str) -> str:
    """Return the node's name as the cluster has it, else the host's up to the first dot."""
    return environment.get("SLURMD_NODENAME") or hostname.partition(".")[0] or "localhost"
