"""`tcs help`."""

import click


@click.command()
@click.argument("names", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def command(context: click.Context, names: tuple[str, ...]) -> None:
    """Show what a command takes: `tcs help cache verify` is `tcs cache verify --help`."""
    shown = context.find_root()
    for name in names:
        if not isinstance(shown.command, click.Group):
            shown.fail(f"'{shown.command_path}' has no commands of its own; type {shown.command_path} --help.")
        _, found, _ = shown.command.resolve_command(shown, [name])
        assert found is not None, "an unknown name has ended in a usage error"
        shown = click.Context(found, info_name=name, parent=shown, **found.context_settings)
    click.echo(shown.get_help())
