from __future__ import annotations

from pathlib import Path

import pytest

from nexa_contracts.errors import ConfigError
from nexa_infra.scheduling.state_dir import StateDir


@pytest.mark.parametrize(
    ("environment", "path"),
    [
        ({"NEXA_STATE_DIR": "/s", "XDG_STATE_HOME": "/x", "HOME": "/h"}, "/s/node7"),
        ({"XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/nexa/node7"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/nexa/node7"),
        ({"HOME": "/h"}, "/h/.local/state/nexa/node7"),
    ],
)
def test_each_machine_has_a_folder_of_its_own(environment: dict[str, str], path: str) -> None:
    assert StateDir.from_environment(environment, hostname="node7.cluster.example").path == Path(path)


def test_without_a_home_the_variable_to_set_is_named() -> None:
    with pytest.raises(ConfigError, match="NEXA_STATE_DIR"):
        StateDir.from_environment({}, hostname="node7")
