"""Where a command stands: its project, its site, its tiers, and the outside world as arguments."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nexa_contracts import env
from nexa_contracts.clock import Clock, SystemClock
from nexa_contracts.errors import ConfigError, NotFound
from nexa_infra.process import CommandRunner, SystemRunner
from nexa_infra.storage.layout import SITE_NAME, Project, Tiers, find_root
from nexa_infra.storage.tiers import open_tiers, plan_tiers

if TYPE_CHECKING:
    from nexa_contracts.site import SiteConfig


@dataclass(frozen=True, slots=True)
class Context:
    """A project with its site; every operation takes one."""

    project: Project
    site: SiteConfig
    tiers: Tiers
    clock: Clock
    runner: CommandRunner
    environment: Mapping[str, str]

    @property
    def project_name(self) -> str:
        """The name under which this project's runs are counted."""
        return self.site.project or self.project.root.name

    def require_tiers(self) -> Tiers:
        """Return the tiers after a check that each is the folder that was initialised; default ones are made.

        Raises:
            TierMissing: a tier that the site file names is not there, or is not the one that was initialised.
            StorageError: a tier is read-only.
        """
        return open_tiers(self.site.tiers, self.project.root, clock=self.clock)


def open_context(
    start: Path | None = None,
    *,
    clock: Clock | None = None,
    runner: CommandRunner | None = None,
    environment: Mapping[str, str] | None = None,
) -> Context:
    """Return the context of the project that a folder (default: the working folder) stands in; reads, writes nothing.

    Raises:
        ConfigError: the site file is wrong, one line a key.
        NotFound: NEXA_SITE names a file that does not exist.
    """
    from nexa_contracts.config import load_config
    from nexa_contracts.site import SiteConfig

    variables = dict(os.environ) if environment is None else environment
    project = open_project(start, environment=variables)
    named = variables.get(env.SITE_FILE)
    site_file = Path(named).expanduser().resolve() if named else project.root / SITE_NAME
    site = load_config(site_file, SiteConfig) if named or site_file.exists() else SiteConfig()
    return Context(
        project=project,
        site=site,
        tiers=plan_tiers(site.tiers, project.root),
        clock=clock or SystemClock(),
        runner=runner or SystemRunner(),
        environment=variables,
    )


def open_project(start: Path | None = None, *, environment: Mapping[str, str] | None = None) -> Project:
    """Return the project that a folder (default: the working folder) stands in, without reading its site file.

    Raises:
        NotFound: NEXA_SITE names a file that does not exist, or the working folder was removed.
        ConfigError: the project's path is no text, and so cannot be recorded.
    """
    named = (os.environ if environment is None else environment).get(env.SITE_FILE)
    if not named:
        return Project(_require_text(find_root(start or _working_folder())))
    site_file = Path(named).expanduser().resolve()
    if not site_file.is_file():
        raise NotFound(f"{env.SITE_FILE}: {site_file}: no such file")
    return Project(_require_text(site_file.parent))


def _working_folder() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise NotFound("the working folder was removed", hint="cd into a project") from error


def _require_text(root: Path) -> Path:
    try:
        str(root).encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{root!s:.200}: found a path that is not UTF-8; allowed: one that is") from error
    return root
