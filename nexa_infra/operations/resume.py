"""What a sweep still lacks, and whether a run has anything to go on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from nexa_contracts.errors import ConfigError
from nexa_contracts.run import ResumeRef, RunConfig, RunManifest, RunOutcome
from nexa_contracts.states import JobState
from nexa_contracts.sweep import SweepManifest
from nexa_infra.operations.compare import flatten
from nexa_infra.operations.context import Context
from nexa_infra.operations.datasets import pin_newest
from nexa_infra.operations.live import newest_members
from nexa_infra.operations.members import Member, expand_sweep
from nexa_infra.operations.status import LiveStates
from nexa_infra.scheduling.sweep import SweepDefinition
from nexa_infra.storage.checkpoints import Checkpoint, list_checkpoints
from nexa_infra.storage.layout import SEAL_NAME
from nexa_infra.storage.manifests import find_outcome, read_run_manifest

_SHAPES_TOKENIZER = frozenset({"data.dataset", "data.format", "data.text_field", "data.eval_fraction", "data.max_rows"})
"""A model from scratch has a tokenizer trained on its data: other data would give old weights new meanings."""
_HOW_TO_SAVE = (
    "a program of one's own saves to $NEXA_SCRATCH_DIR/checkpoints_temp/$NEXA_RUN_ID/checkpoint-STEP and seals the "
    "folder with nexa_infra.storage.seal.seal_folder: docs/guide/own-program.md"
)
_START_AFRESH = frozenset({"diverged", "bad_request"})
"""Failures that a checkpoint would only lead to again."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What a sweep still lacks."""

    members: list[Member]
    """To be submitted again."""
    unknown: Mapping[str, str]
    """Runs that are left alone because nobody can say now how they are, and why."""


def link_to_run(context: Context, run_id: str, config: RunConfig) -> ResumeRef:
    """Return the link from a new run to the one it goes on from, with what differs between their configs.

    That one must have left a checkpoint; which of them is whole is found in the job, which reads them anyway.

    Raises:
        NotFound: there is no such run.
        ConfigError: it has no checkpoint on scratch or durable, for a program of one's own no sealed one, or another
            model.
    """
    before = read_run_manifest(context.project, run_id)
    checkpoints = _list_usable(context, run_id, config)
    if not checkpoints:
        raise ConfigError(
            f"--resume {run_id}: found no {'' if config.train is not None else 'sealed '}checkpoint of this run on "
            "scratch or durable; launch it without --resume",
            hint=_HOW_TO_SAVE if config.train is None else None,
        )
    max_steps = None if config.train is None else config.train.training.max_steps
    if max_steps is not None and checkpoints[0].step > max_steps:
        raise ConfigError(
            f"--resume {run_id}: found its checkpoint of step {checkpoints[0].step}; allowed: training.max_steps of at "
            f"least that, found {max_steps}"
        )
    old = dict(flatten(before.config.model_dump(mode="json")))
    new = dict(flatten(pin_newest(context, config).model_dump(mode="json")))
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    fixed = [key for key in changed if key.startswith(("model.", "lora.")) and not key.endswith("dropout")]
    if config.model is not None and config.model.scratch is not None:
        fixed += [key for key in changed if key in _SHAPES_TOKENIZER]
    if fixed:
        raise ConfigError(
            f"--resume {run_id}: found another {', '.join(fixed)}; allowed: the model and tokenizer of that run"
        )
    return ResumeRef(run_id=run_id, config_changed=tuple(changed))


def find_unfinished(
    context: Context, sweep: SweepManifest, definition: SweepDefinition, *, live: LiveStates, stamp: str, backend: str
) -> Unfinished:
    """Return the members to submit again: those without a run, never submitted, or ended without success.

    A run that was planned for this backend and never reached it is submitted under its own id; one that failed gets a
    new run, linked to the old one when that left checkpoints worth going on from. What runs or waits is left alone, and
    so is what its backend cannot tell about while it may still hold it.
    """
    newest = newest_members(context.project, sweep.sweep_id)
    # First the question: whoever answers it settles what has ended in silence.
    held = live([run_id for run_id in newest.values() if not context.project.outcome(run_id).exists()])
    ended = {index: find_outcome(context.project, run_id) for index, run_id in newest.items()}
    planned: list[Member] = []
    again: list[int] = []
    for index in range(len(definition)):
        run_id, outcome = newest.get(index), ended.get(index)
        if run_id is None or (outcome is not None and outcome.state is not JobState.SUCCEEDED):
            again.append(index)
        elif outcome is None and run_id not in held:
            manifest = read_run_manifest(context.project, run_id)
            if manifest.backend == backend:
                planned.append(_planned(manifest))
            else:
                again.append(index)  # its manifest says for ever where it was to run
    fresh = expand_sweep(definition, sweep.base_config, stamp=stamp, tags=sweep.config.tags, indices=again)
    if not sweep.config.is_adaptive:  # what another point has learnt is no start for a new one
        fresh = [_link(context, member, newest, ended) for member in fresh]
    unknown = {
        run_id: held[run_id].reason or "its backend does not say why"
        for index, run_id in sorted(newest.items())
        if ended[index] is None and run_id in held and held[run_id].state is JobState.UNKNOWN
    }
    return Unfinished(sorted([*planned, *fresh], key=lambda member: member.index or 0), unknown)


def _planned(manifest: RunManifest) -> Member:
    return Member(
        run_id=manifest.run_id,
        config=manifest.config,
        index=manifest.index,
        point=manifest.point,
        resumes=manifest.resumes,
        snapshot=manifest.code.snapshot,  # an edit since then must not reach it: its manifest says what it runs
        is_recorded=True,
    )


def _link(
    context: Context, member: Member, newest: Mapping[int, str], ended: Mapping[int, RunOutcome | None]
) -> Member:
    before, outcome = newest.get(member.index or 0), ended.get(member.index or 0)
    if before is None or outcome is None:
        return member
    kind = outcome.failure.kind if outcome.failure is not None else ""
    if kind in _START_AFRESH or not _list_usable(context, before, member.config):
        return member
    return replace(member, resumes=ResumeRef(run_id=before))


def _list_usable(context: Context, run_id: str, config: RunConfig) -> list[Checkpoint]:
    # A program of one's own may save there and know nothing of seals; a training is told in its job what is wrong.
    found = list_checkpoints(run_id, context.tiers)
    return [each for each in found if config.train is not None or (each.path / SEAL_NAME).is_file()]
