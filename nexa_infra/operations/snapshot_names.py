"""How a person names a recorded code snapshot: by the beginning of its digest."""

from __future__ import annotations

from nexa_contracts.errors import ConfigError, NotFound
from nexa_infra.storage.layout import Tiers


def find_snapshot(text: str, tiers: Tiers) -> str:
    """Return the digest of the one snapshot on durable whose digest begins so.

    Raises:
        NotFound: none does.
        ConfigError: several do.
    """
    folder, ending = tiers.snapshot("x").parent, tiers.snapshot("x").name.removeprefix("x")
    names = sorted(path.name.removesuffix(ending) for path in folder.glob(f"*{ending}"))
    found = [name for name in names if text and name.startswith(text.lower())]
    if not found:
        raise NotFound(f"--code: found {text!r}, and no code snapshot in {folder} begins so", hint="nexa show RUN")
    if len(found) > 1:
        raise ConfigError(f"--code: {text!r} begins {len(found)} code snapshots; give more of the digest")
    return found[0]
