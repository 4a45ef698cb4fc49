"""What the command line says of arguments and options that a command does not take: which, and the way to give what was meant."""

import re
from collections.abc import Mapping

import click

from tcs.errors import meant_by

# click has no error of its own for these
FOUND = re.compile(r"Got unexpected extra arguments? \((?P<extra>.*)\)")

OTHER_TEACHERS = "the store of another teacher of the same images goes with --also {extra}"
MORE_IMAGES = "more images without labels go with --unlabelled-data {extra}"
# command -> the way to give more; of the others: once for each
REMEDIES: Mapping[str, str] = {
    "fit": OTHER_TEACHERS,
    "targets": OTHER_TEACHERS,
    "train": f"{OTHER_TEACHERS}; stores of different images are first joined by tcs cache merge",
    "suggest": OTHER_TEACHERS,
    "audit": "a store of test images goes with --test {extra}",
    "extract": f"{MORE_IMAGES}; labelled data sets are extracted each to its store, and joined by tcs cache merge",
    "distill": f"{MORE_IMAGES}, test images with --test {{extra}}",
    "pretrain": "put the images into one folder, which may have folders in it",
    "demo": "its folder is named with --out {extra}",
    "cache label": "a file of labels goes with --label-file {extra}",
    "cache subset": "stores are joined by tcs cache merge",
    "cache import": "several arrays go with --features NAME=FILE.npy, once for each",
    "cache pack": "the file goes with --out {extra}",
    "cache unpack": "the folder goes with --out {extra}",
    "cache export": "the folder goes with --out {extra}",
}


def with_remedy(error: click.UsageError) -> click.UsageError:
    """The error; where it is of more arguments than a command takes, with what the command takes and the remedy in its line; where it is
    of an option that other tools have, with our name of it."""
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        meant = meant_by(error.option_name, (name for each in error.ctx.command.params for name in each.opts))
        # Not click's own error, which drops a suggestion that does not look like what was typed.
        told = f"No such option '{error.option_name}'. Did you mean '{meant}'?"
        return click.UsageError(told, error.ctx) if meant else error
    found = FOUND.search(error.message)
    if found is None or error.ctx is None:
        return error
    context, extra = error.ctx, found["extra"]
    takes = [each.make_metavar(context) for each in context.command.params if isinstance(each, click.Argument)]
    remedy = REMEDIES.get(context.command_path.partition(" ")[2], "run it once for each").format(extra=extra)
    told = f"{extra} is more than {context.command_path} takes ({' '.join(takes) or 'options alone'}); {remedy}."
    return click.UsageError(told, context)
