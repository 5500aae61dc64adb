"""`config.json`, which a run's program reads: written where the program is started, from what the launch recorded.

A sweep of thousands is submitted without a folder for each of its runs, and a folder that was deleted comes back.
"""

from __future__ import annotations

import json

from nexa_contracts.errors import ConfigError, StorageError
from nexa_infra.scheduling.entry import Entry, locate_project
from nexa_infra.storage.atomic import replace_file


def provide_config(entry: Entry) -> None:
    """Write the run's config where its program looks for it, unless it stands there or the run has no manifest.

    Raises:
        ConfigError: the manifest is none.
        StorageError: one cannot be read, or the other written.
    """
    path = entry.run_dir.config
    if path.exists() or (entry.study is not None and not entry.point):
        return  # of a trial whose point is chosen late, the manifest does not know it; entering the trial wrote it
    manifest = locate_project(entry.manifests_dir).manifest(entry.run_id)
    try:
        config = json.loads(manifest.read_bytes())["config"]
    except FileNotFoundError:
        return  # a program that reads the config says itself that there is none
    except OSError as error:
        raise StorageError(f"{manifest}: cannot be read: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ConfigError(f"{manifest}: not the manifest of a run: {type(error).__name__}: {error}") from error
    replace_file(path, (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode())
