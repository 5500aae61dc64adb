"""The base of every contract: frozen, strict, unknown fields refused, JSON in one canonical form."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from nexa_contracts.errors import ConfigError, UnsupportedSchema
from nexa_contracts.ids import NAME, NAME_RULE
from nexa_contracts.units import DURATION_RULE, SIZE_RULE, parse_duration_s, parse_size_bytes

Scalar = bool | int | float | str
"""A value a sweep axis, a tag or a parameter can take."""


def _duration(text: str) -> str:
    parse_duration_s(text)
    return text


def _size(text: str) -> str:
    parse_size_bytes(text)
    return text


def _name(text: str) -> str:
    if NAME.fullmatch(text) is None:
        raise ValueError(f"allowed: {NAME_RULE}")
    return text


Duration = Annotated[str, AfterValidator(_duration), Field(description=DURATION_RULE)]
"""A text such as `2h30m`; `parse_duration_s` gives its seconds."""
Size = Annotated[str, AfterValidator(_size), Field(description=SIZE_RULE)]
"""A text such as `4GiB`; `parse_size_bytes` gives its bytes."""
Name = Annotated[str, AfterValidator(_name), Field(description=NAME_RULE)]
"""A text that is safe as a path, a Slurm job name and a Kubernetes label."""


class Part(BaseModel):
    """A value inside a contract: frozen, strict, unknown fields refused, no NaN and no infinity."""

    # Built when it is first used: a command uses a few of the many that it loads.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)


class Contract(Part):
    """A value that is a file of its own; `schema_version` says which reader it needs."""

    schema_version: int = Field(default=1, ge=1)
    """Version of the schema the file was written for; a newer one than the reader knows is refused."""

    @field_validator("schema_version")
    @classmethod
    def _known_version(cls, value: int) -> int:
        # `check_version` speaks first, for a file; this holds for a contract inside another, and for `--set`.
        supported = cls.model_fields["schema_version"].default
        if value > supported:
            raise ValueError(f"this version of nexa-compute reads up to {supported}")
        return value

    def to_json(self) -> str:
        """Return the contract as indented JSON with a final newline; equal contracts give equal text."""
        return self.model_dump_json(indent=2) + "\n"

    def digest(self) -> str:
        """Return the sha256 of the canonical JSON (sorted keys, no white space), as hexadecimal text."""
        return digest_json(self.model_dump(mode="json"))

    @classmethod
    def from_json(cls, text: str | bytes, *, source: str) -> Self:
        """Return the contract in a JSON text; `source` names it in errors.

        Raises:
            UnsupportedSchema: it was written by a newer version.
            ConfigError: it is not JSON or does not fit the schema.
        """
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{source}: not valid JSON: {error}") from error
        cls.check_version(found, source=source)
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ": ".join([source, *([".".join(map(str, first["loc"]))] if first["loc"] else [])])
            raise ConfigError(f"{where}: {first['msg']} ({error.error_count()} in all)") from error

    @classmethod
    def check_version(cls, data: Any, *, source: str) -> None:
        """Return if this version reads the `schema_version` of some parsed data.

        Raises:
            UnsupportedSchema: it was written by a newer version.
        """
        supported = cls.model_fields["schema_version"].default
        version = data.get("schema_version", supported) if isinstance(data, dict) else supported
        if isinstance(version, int) and version > supported:
            raise UnsupportedSchema(
                f"{source}: schema_version {version}; this version reads up to {supported}",
                hint="upgrade nexa-compute",
            )


def digest_json(value: Any) -> str:
    """Return the sha256 of a JSON value in canonical form, as hexadecimal text."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
