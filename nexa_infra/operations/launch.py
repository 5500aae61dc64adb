"""Launch one training job, or a sweep; resume a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from nexa_contracts import ids
from nexa_contracts.config import Override, load_config, parse_config
from nexa_contracts.errors import ConfigError
from nexa_contracts.run import ResumeRef, RunConfig
from nexa_contracts.yaml_text import read_yaml
from nexa_infra.operations.backends import resolve_backend
from nexa_infra.operations.context import Context, open_context
from nexa_infra.operations.members import Member, expand_sweep
from nexa_infra.operations.prepare import Asked
from nexa_infra.operations.submitting import How, Launched, NewSweep, carry_out, with_free_id
from nexa_infra.operations.sweep_lock import hold_sweep
from nexa_infra.scheduling.sweep import define_sweep, load_sweep
from nexa_infra.storage.manifests import read_sweep_manifest


@dataclass(frozen=True, slots=True)
class Resumed:
    """What became of a sweep that was taken up again."""

    launched: Launched | None
    """None: there was nothing to submit."""
    handed_over: int = 0
    """Runs that a submission before had left, and that Slurm holds now."""
    unknown: Mapping[str, str] = field(default_factory=dict)
    """Runs that were left alone because nobody can say now how they are, and why."""


def launch_training_job(  # noqa: PLR0913 - each keyword is an option of the command
    config: Path,
    *,
    overrides: Sequence[Override] = (),
    backend: str | None = None,
    resume: str | None = None,
    snapshot: str | None = None,
    dry_run: bool = False,
    context: Context | None = None,
) -> Launched:
    """Launch the run in a config file and return what was submitted; does not wait for it to end.

    `resume` names a run whose newest verified checkpoint the new run goes on from; `snapshot` is the digest of a
    recorded code snapshot to run instead of the code as it is now.

    Raises:
        ConfigError, NotFound: the request is wrong, one line a key.
        PolicyRefused: a policy says no.
        StorageError: a tier is missing, full or read-only, or a dataset is not the one that was registered.
    """
    context = context or open_context()
    backend, overrides = resolve_backend(backend or context.site.backend, overrides)
    run_config = load_run_config(config, overrides)
    resumes = _link_to_run(context, resume, run_config) if resume is not None else None

    def build(stamp: str) -> Launched:
        member = Member(run_id=ids.run_id(stamp), config=run_config, resumes=resumes, snapshot=snapshot)
        asked = Asked(
            submission=member.run_id,
            sweep_id=None,
            members=[member],
            source=str(config),
            overrides={item.key: item.text for item in overrides},
        )
        return carry_out(context, asked, How(backend, dry_run=dry_run))

    return with_free_id(context, build)


def launch_sweep(
    path: Path,
    *,
    overrides: Sequence[Override] = (),
    backend: str | None = None,
    dry_run: bool = False,
    submit: bool = True,
    context: Context | None = None,
) -> Launched:
    """Launch every point of a sweep file and return what was submitted; does not wait for the runs to end.

    With `submit=False` everything is written and nothing handed over: `resume_sweep` does that later.

    Raises: as `launch_training_job`.
    """
    context = context or open_context()
    backend, overrides = resolve_backend(backend or context.site.backend, overrides)
    config, base, definition = load_sweep(path, overrides)

    def build(stamp: str) -> Launched:
        members = expand_sweep(definition, base, stamp=stamp, tags=config.tags)
        asked = Asked(
            submission=ids.sweep_id(stamp),
            sweep_id=ids.sweep_id(stamp),
            members=members,
            source=str(path),
            overrides={item.key: item.text for item in overrides},
            max_parallel=config.max_parallel,
            sweep=config,
            has_study=config.has_study,
        )
        how = How(
            backend,
            dry_run=dry_run,
            submit=submit,
            sweep=NewSweep(config, base, len(definition)),
        )
        return carry_out(context, asked, how)

    return with_free_id(context, build)


def launch_slurm_sweep(
    path: Path,
    *,
    overrides: Sequence[Override] = (),
    submit: bool = False,
    dry_run: bool = False,
    context: Context | None = None,
) -> Launched:
    """Launch every point of a sweep file as job arrays of the Slurm cluster; returns once Slurm has answered.

    Without `submit` everything is written and nothing handed over: `resume_sweep` does that later.

    Raises:
        ExternalError: Slurm refused, or does not answer; `resume_sweep` goes on, and submits nothing twice.
        As `launch_training_job`.
    """
    return launch_sweep(path, overrides=overrides, backend="slurm", submit=submit, dry_run=dry_run, context=context)


def resume_sweep(
    sweep_id: str, *, backend: str | None = None, dry_run: bool = False, context: Context | None = None
) -> Launched | None:
    """Submit the members of a sweep that are missing or failed, and no other; None when there are none.

    A failed member gets a new run with the same index and point, from its newest verified checkpoint; in an adaptive
    search it gets a new point instead. Of two calls at once, the second waits, and then finds what the first has
    submitted.

    Raises:
        NotFound: no such sweep.
        As `launch_training_job`.
    """
    return take_up_sweep(sweep_id, backend=backend, dry_run=dry_run, context=context).launched


def take_up_sweep(
    sweep_id: str, *, backend: str | None = None, dry_run: bool = False, context: Context | None = None
) -> Resumed:
    """Do what `resume_sweep` does, and return what there is to say beside; a dry run settles nothing.

    Raises: as `resume_sweep`.
    """
    from nexa_infra.operations.handing_over import find_backend, hand_over_rest
    from nexa_infra.operations.live import live_states, newest_members
    from nexa_infra.operations.resume import find_unfinished

    context = context or open_context()
    manifest = read_sweep_manifest(context.project, sweep_id)
    definition = define_sweep(manifest.config, source=manifest.config_source)
    chosen = backend or find_backend(context, sweep_id)
    live = live_states(context.project, environment=context.environment, clock=context.clock, settles=not dry_run)

    def build(stamp: str) -> Resumed:
        lacking = find_unfinished(context, manifest, definition, live=live, stamp=stamp, backend=chosen)
        if not lacking.members:
            return Resumed(None, unknown=lacking.unknown)
        asked = Asked(
            submission=sweep_id,
            sweep_id=sweep_id,
            members=lacking.members,
            source=manifest.config_source,
            overrides={},
            max_parallel=manifest.max_parallel,
            has_study=manifest.config.has_study,
            folder=context.project.run(sweep_id) / f"resume-{stamp}",
        )
        return Resumed(carry_out(context, asked, How(chosen, dry_run=dry_run)), unknown=lacking.unknown)

    with nullcontext() if dry_run else hold_sweep(context, sweep_id):
        handed_over = 0 if dry_run else hand_over_rest(context, [sweep_id])
        newest = max(newest_members(context.project, sweep_id).values(), default=None)
        return replace(with_free_id(context, build, after=newest), handed_over=handed_over)


def load_run_config(path: Path, overrides: Sequence[Override]) -> RunConfig:
    """Return the run config in a YAML file, or in the `config.json` or the manifest of an earlier run.

    Raises:
        ConfigError, NotFound: as `load_config`; a sweep file is named as one.
    """
    document = read_yaml(path)
    if isinstance(document.data, dict) and "axes" in document.data:
        raise ConfigError(f"{path}: found a sweep (it has axes); allowed: a run config", hint=f"nexa sweep {path}")
    if isinstance(document.data, dict) and {"run_id", "config"} <= document.data.keys():
        return parse_config(replace(document, data=document.data["config"]), RunConfig, overrides=overrides)
    return load_config(path, RunConfig, overrides=overrides)


def _link_to_run(context: Context, run_id: str, config: RunConfig) -> ResumeRef:
    from nexa_infra.operations.resume import link_to_run  # with the index, 40 ms that a new sweep need not pay

    return link_to_run(context, run_id, config)
