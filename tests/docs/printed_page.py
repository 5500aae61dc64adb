"""A page read as what a reader would do with it: files to write, commands to type, programs to run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(\w*)\s*$")
_FILE_NAME = re.compile(r"`([\w][\w./-]*\.\w+)`:\s*$")
_EXITS = re.compile(r"#\s*exits ([0-9]+)\s*$")
_STAMP = re.compile(r"(?:run|sweep)_([0-9]{8}_[0-9]{6}_[a-z0-9]{4})")


@dataclass(frozen=True, slots=True)
class Command:
    """A line after `$ ` in a console block, with what the page shows under it."""

    line: int
    text: str
    output: tuple[str, ...]

    @property
    def status(self) -> int:
        """The exit status the page promises: `# exits N` at the end of the line, else 0."""
        match = _EXITS.search(self.text)
        return int(match[1]) if match else 0


@dataclass(frozen=True, slots=True)
class File:
    """A block whose introduction ends with a file's name in backticks and a colon."""

    line: int
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Program:
    """A python block that is no file."""

    line: int
    text: str


Step = Command | File | Program


def read_steps(page: Path) -> list[Step]:
    """Return what the page asks for, in order."""
    return list(_steps(page.read_text(encoding="utf-8").splitlines()))


def find_stamps(text: str) -> list[str]:
    """Return the part of each run or sweep id that a launch chose, each once, in order of appearance."""
    return list(dict.fromkeys(_STAMP.findall(text)))


def _steps(lines: list[str]) -> Iterator[Step]:
    number = 0
    before = ""
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if fence is None:
            before = lines[number] or before
            number += 1
            continue
        start = number + 1
        end = next(place for place in range(start, len(lines)) if lines[place].startswith("```"))
        body = lines[start:end]
        named = _FILE_NAME.search(before)
        if fence[1] == "console":
            yield from _commands(body, first=start + 1)
        elif named:
            yield File(start, named[1], "\n".join(body) + "\n")
        elif fence[1] == "python":
            yield Program(start, "\n".join(body) + "\n")
        before = ""
        number = end + 1


def _commands(body: list[str], *, first: int) -> Iterator[Command]:
    starts = [place for place, line in enumerate(body) if line.startswith("$ ")]
    for start, end in zip(starts, [*starts[1:], len(body)], strict=True):
        head = start
        while body[head].endswith("\\"):
            head += 1
        text = "\n".join([body[start].removeprefix("$ "), *body[start + 1 : head + 1]])
        yield Command(first + start, text, tuple(body[head + 1 : end]))
