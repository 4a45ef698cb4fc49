"""`tcs cache`: store upkeep. One module a subcommand, imported when it is asked for."""

import click

from tcs.cli.lazy_group import LazyGroup

# subcommand -> (module, one line of help), in the order of `tcs cache --help`
SUBCOMMANDS: dict[str, tuple[str, str]] = {
    "info": ("tcs.cli.cache.info", "Show what a store holds and where it comes from."),
    "label": ("tcs.cli.cache.label", "Give images of a store labels, or correct them, without a new pass."),
    "verify": ("tcs.cli.cache.verify", "Check every byte of a store, and list all that is wrong."),
    "update": ("tcs.cli.cache.update", "Make a store follow its data, which has grown or changed."),
    "repair": ("tcs.cli.cache.repair", "Extract the bad shards of a store again, and nothing else."),
    "pack": ("tcs.cli.cache.pack", "Write a store into one file, to be read or sent as it is."),
    "merge": ("tcs.cli.cache.merge", "Write disjoint stores of one teacher into one store."),
    "subset": ("tcs.cli.cache.subset", "Write part of a store into another store."),
    "import": ("tcs.cli.cache.import_", "Write features that are there already into a store."),
    "export": ("tcs.cli.cache.export", "Write the rows of a store as plain arrays or parquet."),
    "unpack": ("tcs.cli.cache.unpack", "Write a packed store into the folder it was."),
}


@click.group(name="cache", cls=LazyGroup, table=SUBCOMMANDS)
def command() -> None:
    """Look after a feature store."""
