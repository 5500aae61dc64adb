"""The project and the command line of tests/cli, for whole runs under faults."""

from tests.cli.conftest import cli

__all__ = ["cli"]
