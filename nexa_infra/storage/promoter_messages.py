"""What a training process and its promoter say to each other: one JSON object a line, answers in the order asked."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nexa_contracts.errors import StorageError

if TYPE_CHECKING:
    from nexa_contracts.artifact import ArtifactKind, ArtifactRef

Operation = Literal["seal", "seal_and_promote"]


@dataclass(frozen=True, slots=True)
class PromoterRequest:
    """A folder whose writer is done with it: to be sealed, and promoted when asked. Asking twice does no harm."""

    operation: Operation
    folder: str
    kind: ArtifactKind
    run_id: str
    step: int | None = None
    name: str = ""
    """On durable; only for a promotion."""
    keep_last: int | None = None
    """Afterwards the run's older checkpoints go from scratch, but for this many verified ones; None: all stay."""
    public: str = ""
    """Where the folder appears once it is sealed; empty: it is there already."""

    @property
    def place(self) -> Path:
        """Where the folder stays."""
        return Path(self.public or self.folder)

    @classmethod
    def of_checkpoint(
        cls, folder: Path, *, run_id: str, step: int, promote: bool, keep_last: int | None
    ) -> PromoterRequest:
        """Return the request to seal a saved checkpoint, and to keep it on durable when `promote`."""
        from nexa_infra.storage.layout import checkpoint_name

        operation: Operation = "seal_and_promote" if promote else "seal"
        name = checkpoint_name(run_id, step) if promote else ""
        return cls(operation, str(folder), "checkpoint", run_id, step, name, keep_last)

    def appearing_as(self, public: Path) -> PromoterRequest:
        """Return the request whose folder gets another name once it is sealed, if that is another one."""
        return self if Path(self.folder) == public else replace(self, public=str(public))

    @classmethod
    def of_model(cls, folder: Path, *, run_id: str) -> PromoterRequest:
        """Return the request to seal and promote a run's final model."""
        return cls("seal_and_promote", str(folder), "model", run_id, None, run_id)


@dataclass(frozen=True, slots=True)
class PromoterAnswer:
    """What became of a request: an error, or the seal's digest and, of a promotion, where the artifact is."""

    request: PromoterRequest
    error: str | None = None
    hint: str | None = None
    seal_sha256: str | None = None
    path: str | None = None
    """Of the artifact, relative to the durable tier; None when it was only sealed."""
    size_bytes: int = 0
    seconds: float = 0.0

    def artifact_ref(self) -> ArtifactRef:
        """Return the promoted artifact as a run's outcome names it.

        Raises:
            StorageError: it was not promoted.
        """
        from nexa_contracts.artifact import ArtifactRef

        if self.error is not None or self.path is None or self.seal_sha256 is None:
            raise StorageError(
                f"{self.request.folder}: was not promoted: {self.error or 'only sealed'}", hint=self.hint
            )
        return ArtifactRef(
            name=self.request.name,
            kind=self.request.kind,
            step=self.request.step,
            path=self.path,
            seal_sha256=self.seal_sha256,
            size_bytes=self.size_bytes,
        )


def render_line(number: int, message: PromoterRequest | dict[str, Any]) -> bytes:
    """Return the line for a request, or for the fields of an answer."""
    fields = asdict(message) if isinstance(message, PromoterRequest) else message
    return json.dumps({"id": number, **fields}).encode() + b"\n"


def parse_request(line: bytes) -> tuple[int, PromoterRequest]:
    """Return a request and its number.

    Raises:
        ValueError: the line is not a request; the other side is another version.
    """
    try:
        fields = json.loads(line)
        return int(fields.pop("id")), PromoterRequest(**fields)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a request: {error}") from error


def parse_answer(line: bytes) -> tuple[int, dict[str, Any]]:
    """Return the fields of an answer and the number of its request.

    Raises:
        ValueError: the line is not an answer.
    """
    try:
        fields = json.loads(line)
        return int(fields.pop("id")), dict(fields)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not an answer: {error}") from error
