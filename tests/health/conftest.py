"""The stand-in NVML library, built once for a session."""

from __future__ import annotations

import pytest

from tests.health.nvml_standin import NvmlScenes, build


@pytest.fixture(scope="session")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> NvmlScenes:
    return build(tmp_path_factory.mktemp("nvml"))
