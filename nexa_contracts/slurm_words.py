"""What may stand in an option of a Slurm command: the whole of a value, so that none can become another option."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nexa_contracts.errors import ConfigError

_WORD = r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}"
_NODE = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_RANGES = r"\[[0-9]{1,9}(?:-[0-9]{1,9})?(?:,[0-9]{1,9}(?:-[0-9]{1,9})?){0,999}\]"


@dataclass(frozen=True, slots=True)
class Rule:
    """A form that a value may have."""

    pattern: re.Pattern[str]
    allowed: str

    def check(self, key: str, value: str) -> str:
        """Return the value.

        Raises:
            ConfigError: it has another form; names the key, what was found and what is allowed.
        """
        if self.pattern.fullmatch(value) is None:
            raise ConfigError(f"{key}: found {shorten(value)}; allowed: {self.allowed}")
        return value


def make_rule(pattern: str, allowed: str) -> Rule:
    """Return the rule of a pattern, whose letters and digits are those of ASCII."""
    return Rule(re.compile(pattern, re.ASCII), allowed)


def shorten(value: str) -> str:
    """Return a value as it is shown in a message of one line."""
    # repr shows a newline as two characters: the message stays one line.
    return repr(value if len(value) <= 60 else f"{value[:57]}...")


PARTITIONS = make_rule(rf"{_WORD}(?:,{_WORD}){{0,31}}", "names of letters, digits, . _ @ + -, with commas between them")
ACCOUNT = make_rule(_WORD, "one name of letters, digits, . _ @ + -")
CONSTRAINT = make_rule(r"[A-Za-z0-9\[(][A-Za-z0-9._+\[\]()&|*,:=-]{0,511}", "features joined by & | , ( ) [ ] *")
NODE = make_rule(_NODE, "the name of a node, as n7")
NODES = make_rule(
    rf"{_NODE}(?:{_RANGES}[A-Za-z0-9._-]{{0,127}}){{0,4}}", "a node or a range of nodes, as n7 or gpu[01-04,07]"
)
NAMED = {"partition": PARTITIONS, "account": ACCOUNT, "qos": ACCOUNT, "constraint": CONSTRAINT}
"""Keys of `slurm` in the site file that are options under the same name."""
