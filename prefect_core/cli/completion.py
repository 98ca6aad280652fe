"""`prefect-core completion`: the scripts that make shells complete our commands and options."""

from __future__ import annotations

import click

from prefect_core.cli.commands import Command

SHELLS = ("bash", "zsh", "fish")


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that makes a shell complete commands and options.

    \b
    bash:  prefect-core completion bash > ~/.local/share/bash-completion/completions/prefect-core
    zsh:   prefect-core completion zsh > a file called _prefect-core in a folder of $fpath
    fish:  prefect-core completion fish > ~/.config/fish/completions/prefect-core.fish
    """
    from click.shell_completion import ShellComplete, get_completion_class

    program = context.find_root().command
    kind = get_completion_class(shell)
    assert kind is not None
    completer = kind(program, {}, "prefect-core", "_PREFECT_CORE_COMPLETE")
    # The class for bash would first start a bash to ask for its version.
    click.echo(ShellComplete.source(completer))
