"""`nexa`: the table of commands, and the one place where an error becomes a line and an exit status.

A command's module is imported when the command runs, so `nexa --help` pays for none of them.
"""

from __future__ import annotations

import importlib
import os
import sys

import click

from nexa_cli.stdout import watch_stdout
from nexa_contracts import env
from nexa_contracts.errors import ConfigError, NexaError
from nexa_contracts.exit_codes import CommandExit

COMMANDS: dict[str, tuple[str, str]] = {
    "launch": ("launch", "Run one training job, tracked from start to finish."),
    "sweep": ("sweep", "Run many jobs from one file: a grid, a random search, or one that learns (tpe)."),
    "runs": ("runs", "List runs."),
    "sweeps": ("sweeps", "List sweeps."),
    "watch": ("watch", "Look after runs until they have ended."),
    "status": ("status", "Tell how a run or a sweep is doing."),
    "logs": ("logs", "Print what a run printed."),
    "cancel": ("cancel", "End a run or a sweep, whole process trees included."),
    "show": ("show", "Show what a run is: config, code, data, environment, result."),
    "compare": ("compare", "Show what differs between runs in config, code, data and result."),
    "leaderboard": ("leaderboard", "Rank runs by a metric, and write the table and the curves."),
    "cost": ("cost", "Say what runs will cost and what they did cost."),
    "plan-checkpoints": ("plan_checkpoints", "Recommend how often to save."),
    "data": ("data", "Register datasets and check their files."),
    "storage": ("storage", "Set up the storage tiers and see what is in them."),
    "health": ("health", "Check nodes before they join, and keep bad ones out."),
    "doctor": ("doctor", "Check this machine and this project, and say what to do."),
    "completion": ("completion", "Print the shell completion script."),
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and first lines, and imports one when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return the command, importing its module."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"nexa_cli.{COMMANDS[cmd_name][0]}_command")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that was asked for; a wrong name is answered with the nearest right one."""
        name = args[0] if args else ""
        if name == "help":
            return self._resolve_help(ctx, args[1:])
        if name and name not in COMMANDS and not name.startswith("-"):
            import difflib

            close = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"allowed: {', '.join(COMMANDS)}"
            raise click.UsageError(f"no command {name!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def _resolve_help(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if not args:
            click.echo(ctx.get_help())
            ctx.exit()
        name, asked, _ = self.resolve_command(ctx, args[:1])
        return name, asked, ["--help"]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib import metadata

        click.echo(f"nexa {metadata.version('nexa-compute')}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version.",
)
@click.option("-v", "--verbose", is_flag=True, help="Say more on stderr.")
def command(verbose: bool) -> None:
    """Launch training jobs, keep their evidence, know their cost.

    \b
    First steps:
      nexa sweep nexa_train/sweeps/random_search.yaml     a random search on this machine
      nexa launch nexa_train/configs/baseline.yaml        one tracked run
      nexa runs                                           what ran
    """
    if verbose:
        import logging  # 12 ms that `nexa --help` need not pay

        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status.

    A person sees one line for each thing that is wrong, never a traceback: NEXA_DEBUG=1 shows it.
    """
    watch_stdout()
    try:
        _check_text(sys.argv[1:] if arguments is None else arguments)
        status = command.main(args=arguments, prog_name="nexa", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort:
        _fail("interrupted", CommandExit.INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except NexaError as error:
        if os.environ.get(env.DEBUG):
            raise
        _fail(error.message, error.exit_code, hint=error.hint)
    except KeyboardInterrupt:
        _fail("interrupted", CommandExit.INTERRUPTED)
    except Exception as error:
        if os.environ.get(env.DEBUG):
            raise
        if isinstance(error, OSError) and error.strerror and isinstance(error.filename, str):
            # A disk or a right of this machine, met where no module has more to say of it.
            _fail(f"{error.filename}: {error.strerror[:1].lower()}{error.strerror[1:]}", CommandExit.FAILED)
        _fail(f"internal error: {type(error).__name__}: {error}", CommandExit.FAILED, hint=f"{env.DEBUG}=1 shows where")
    sys.exit(status if isinstance(status, int) else CommandExit.DONE)


def _check_text(arguments: list[str]) -> None:
    # Everything that is typed may end in a manifest, which is UTF-8; Python keeps other bytes as lone surrogates.
    for argument in arguments:
        if not argument.isascii() and any("\ud800" <= character <= "\udfff" for character in argument):
            raise ConfigError(f"{argument!r}: found bytes that are not UTF-8; allowed: UTF-8 text")


def _fail(message: str, code: int, *, hint: str | None = None) -> None:
    lines = message.splitlines() or [message]
    for line in lines:
        click.echo(f"nexa: {line}", err=True)
    if hint:
        click.echo(f"nexa: hint: {hint}", err=True)
    sys.exit(int(code))


if __name__ == "__main__":
    main()
