"""`nexa completion`: the script that teaches a shell our commands."""

from __future__ import annotations

import click

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def command(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    Example:
      nexa completion bash >> ~/.bashrc
      nexa completion zsh > ~/.zfunc/_nexa
      nexa completion fish > ~/.config/fish/completions/nexa.fish
    """
    from click.shell_completion import get_completion_class

    from nexa_cli.main import command as root

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(found(root, {}, "nexa", "_NEXA_COMPLETE").source())
