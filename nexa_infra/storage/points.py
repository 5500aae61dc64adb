"""`point.json`: what a study gave a run when it started. Only JSON is read, so that watching commands start fast."""

from __future__ import annotations

import json
from typing import Any

from nexa_contracts.errors import StorageError
from nexa_infra.storage.run_dir import RunDir


def find_point(run_dir: RunDir) -> dict[str, Any]:
    """Return what a study gave the run (`PointRecord`); empty when it is no trial, or has not started.

    Of a damaged file nothing is said: the study knows the point too.

    Raises:
        StorageError: it cannot be read.
    """
    path = run_dir.point
    try:
        return dict(json.loads(path.read_bytes())["point"])
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, RecursionError):
        return {}
