"""Where everything lies: the one owner, with `run_dir`, of the spelling of every path in a tier and a project.

Nothing here touches the disk but `find_root`. Names that come from outside cannot leave their folder: a separator,
`..` or an empty name is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nexa_contracts import env
from nexa_contracts.errors import ConfigError
from nexa_infra.storage.run_dir import RunDir

SITE_NAME = "nexa.yaml"
TIER_MARKER = ".nexa-tier.json"
"""Lies in the root of every initialised tier; a tier without it is not there (unmounted), however the path looks."""
SEAL_NAME = "nexa_seal.json"
"""Lies in every sealed folder and names the digest of each other file."""
INCOMING_PREFIX = ".incoming-"
"""Of a folder beside the promoted ones that is still being copied."""
REMOVED_PREFIX = ".removed-"
"""Of a folder that was taken out of use and is being deleted."""
CHECKPOINT_PREFIX = "checkpoint-"
"""Of a checkpoint's folder on scratch; the step follows. As the Hugging Face Trainer names them."""

SAVING_PREFIX = ".attempt-"
"""Of a folder beside the checkpoints in which one attempt saves, where another may start while it still lives."""


def find_root(start: Path) -> Path:
    """Return the project's root: the nearest folder upwards with `nexa.yaml`, else with `.git`, else `start`."""
    start = start.resolve()
    for marker in (SITE_NAME, ".git"):
        for folder in (start, *start.parents):
            if (folder / marker).exists():
                return folder
    return start


@dataclass(frozen=True, slots=True)
class Tiers:
    """The roots of the three storage tiers, and every path in them."""

    scratch: Path
    durable: Path
    shared: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Tiers:
        """Return the tiers a job was given.

        Raises:
            ConfigError: a variable is not set, as when a job's program is started by hand.
        """
        names = (env.SCRATCH_DIR, env.DURABLE_DIR, env.SHARED_DIR)
        missing = [name for name in names if not environment.get(name)]
        if missing:
            raise ConfigError(
                f"environment: {', '.join(missing)} not set; a job's program finds its tiers there",
                hint="start it through `nexa launch`, or set the variables to the tiers' folders",
            )
        return cls(*(Path(environment[name]) for name in names))

    @property
    def dataloader_cache(self) -> Path:
        """The folder of tokenised data, which can be made again."""
        return self.scratch / "dataloader_cache"

    @property
    def wandb_offline(self) -> Path:
        """The folder of trackers that report later."""
        return self.scratch / "wandb_offline"

    def checkpoints_temp(self, run_id: str) -> Path:
        """Return the folder of a run's own checkpoints, `checkpoint-<step>` each."""
        return self.scratch / "checkpoints_temp" / _part(run_id)

    def saving_temp(self, run_id: str, attempt: int) -> Path:
        """Return the folder in which one attempt alone saves what is then made visible among the run's checkpoints."""
        return self.checkpoints_temp(run_id) / f"{SAVING_PREFIX}{attempt}"

    def final_temp(self, run_id: str) -> Path:
        """Return the folder of a run's final model before it is promoted."""
        return self.checkpoints_temp(run_id) / "final"

    def logs_temp(self, run_id: str) -> Path:
        """Return the folder of a run's logs while it goes on."""
        return self.scratch / "logs_temp" / _part(run_id)

    @property
    def datasets(self) -> Path:
        """The folder of the registered datasets' files."""
        return self.durable / "datasets"

    @property
    def checkpoints(self) -> Path:
        """The folder of everything promoted: final models and kept checkpoints."""
        return self.durable / "checkpoints"

    def checkpoint(self, name: str) -> Path:
        """Return the folder of a promoted artifact; a run id for a final model, else as `checkpoint_name`."""
        return self.checkpoints / _part(name)

    def incoming(self, name: str, mark: str) -> Path:
        """Return the folder an artifact is copied to before it appears."""
        return self.checkpoints / f"{INCOMING_PREFIX}{_part(name)}-{_part(mark)}"

    @property
    def reports(self) -> Path:
        """The folder of leaderboards and curves."""
        return self.durable / "evals" / "reports"

    def outputs(self, run_id: str) -> Path:
        """Return the folder of a run's evaluation outputs."""
        return self.durable / "evals" / "outputs" / _part(run_id)

    @property
    def durable_manifests(self) -> Path:
        """The folder of the copies of manifests, and of what only durable knows: artifacts and datasets."""
        return self.durable / "manifests"

    def artifact_manifest(self, name: str) -> Path:
        """Return the file that says an artifact was promoted whole."""
        return self.durable_manifests / f"artifact_{_part(name)}.json"

    @property
    def intents(self) -> Path:
        """The folder of promotions that are under way."""
        return self.durable_manifests / "intents"

    def intent(self, name: str) -> Path:
        """Return the file that says that an artifact is being promoted."""
        return self.intents / f"{_part(name)}.json"

    @property
    def audit(self) -> Path:
        """The folder of the audit log."""
        return self.durable_manifests / "audit"

    @property
    def dataset_registry(self) -> Path:
        """The file that lists the datasets for people."""
        return self.durable_manifests / "dataset_registry.yaml"

    @property
    def dataset_manifests(self) -> Path:
        """The folder of the datasets' manifests."""
        return self.durable_manifests / "datasets"

    def dataset_manifest(self, name: str, version: int) -> Path:
        """Return the manifest of one version of a dataset."""
        return self.dataset_manifests / f"{_part(name)}_v{version}.json"

    def snapshot(self, digest: str) -> Path:
        """Return the archive of a code snapshot."""
        return self.durable_manifests / "snapshots" / f"{_part(digest)}.tar.gz"

    def snapshot_record(self, digest: str) -> Path:
        """Return the CodeRecord of a code snapshot as it was first taken."""
        return self.durable_manifests / "snapshots" / f"{_part(digest)}.json"

    @property
    def active_jobs(self) -> Path:
        """The folder in which jobs say that they are alive."""
        return self.shared / "active_jobs"

    def study(self, sweep_id: str) -> Path:
        """Return the journal of the Optuna study of a sweep, which `optuna-dashboard` opens."""
        return self.active_jobs / _part(sweep_id) / "study.journal"

    def health(self, cluster: str) -> Path:
        """Return the folder of a cluster's quarantine ledger and baseline."""
        return self.shared / "health" / _part(cluster)


@dataclass(frozen=True, slots=True)
class Project:
    """A project on the control machine: its root, its manifests (the source of truth) and its runs' folders."""

    root: Path
    runs: Path = field(init=False, repr=False, compare=False)
    """The folder of everything launched from this project."""
    manifests: Path = field(init=False, repr=False, compare=False)
    """The folder of the manifests; git may track it."""

    def __post_init__(self) -> None:
        """Join the paths once: a sweep of thousands asks for them again and again."""
        object.__setattr__(self, "runs", self.root / "runs")
        object.__setattr__(self, "manifests", self.runs / "manifests")

    @property
    def index(self) -> Path:
        """The database over the manifests; it can be deleted any time."""
        return self.runs / ".index.sqlite3"

    def manifest(self, run_id: str) -> Path:
        """Return the RunManifest of a run."""
        return self.manifests / f"{_part(run_id)}.json"

    def outcome(self, run_id: str) -> Path:
        """Return the RunOutcome of a run."""
        return self.manifests / f"outcome_{_part(run_id)}.json"

    def cost(self, run_id: str) -> Path:
        """Return the CostManifest of a run."""
        return self.manifests / f"cost_{_part(run_id)}.json"

    def sweep_manifest(self, sweep_id: str) -> Path:
        """Return the SweepManifest of a sweep, whose id begins with `sweep_`."""
        return self.manifests / f"{_part(sweep_id)}.json"

    def run(self, submission: str) -> Path:
        """Return the folder of a run, or of a sweep."""
        return self.runs / _part(submission)

    def run_dir(self, run_id: str) -> RunDir:
        """Return the folder of a run with the spelling of its files."""
        return RunDir(self.run(run_id))

    def config(self, run_id: str) -> Path:
        """Return the resolved RunConfig of a run."""
        return self.run_dir(run_id).config

    def plan(self, submission: str) -> Path:
        """Return the LaunchPlan of a run or sweep."""
        return self.run(submission) / "plan.json"

    def spec(self, submission: str) -> Path:
        """Return the JobSpec of a run or sweep."""
        return self.run(submission) / "spec.json"

    def submission(self, submission: str) -> Path:
        """Return the SubmissionRecord of a run or sweep."""
        return self.run(submission) / "submission.json"

    def attempts(self, run_id: str) -> Path:
        """Return the folder of a run's attempts."""
        return self.run_dir(run_id).attempts

    def attempt(self, run_id: str, number: int) -> Path:
        """Return the AttemptRecord of an attempt, from 1."""
        return self.run_dir(run_id).attempt(number)

    def result(self, run_id: str, number: int) -> Path:
        """Return the WorkResult of an attempt, from 1."""
        return self.run_dir(run_id).result(number)

    def log(self, run_id: str, number: int) -> Path:
        """Return the log of an attempt that ended, from 1."""
        return self.run_dir(run_id).log(number)

    def metrics(self, run_id: str) -> Path:
        """Return the metrics of a run."""
        return self.run_dir(run_id).metrics

    def heartbeat(self, run_id: str) -> Path:
        """Return the last sign of life of a run."""
        return self.run_dir(run_id).heartbeat

    def snapshot(self, digest: str) -> Path:
        """Return the folder of an unpacked code snapshot, which is only read."""
        return self.runs / "snapshots" / _part(digest)


def checkpoint_name(run_id: str, step: int) -> str:
    """Return the name under which a kept checkpoint of a run is promoted."""
    return f"{run_id}_step_{step}"


def _part(text: str) -> str:
    if not text or text in {".", ".."} or "/" in text or "\0" in text:
        raise ConfigError(f"{text!r} cannot name a file; allowed: a name without / that is not empty, . or ..")
    return text
