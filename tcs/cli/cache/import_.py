"""`tcs cache import`. Loads neither torch nor a teacher."""

from collections.abc import Sequence
from typing import Any

import click

from tcs.config.exchange import ImportConfig


def parse_pairs(context: click.Context, option: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    """`NAME=TEXT` texts as a dict. BadParameter without ``=``, or for a name that is there twice."""
    found: dict[str, str] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not (equals and name and text) or name in found:
            raise click.BadParameter(f"'{value}' must be NAME=VALUE, each name once.", context, option)
        found[name] = text
    return found


@click.command(name="import")
@click.argument("source", metavar="[FEATURES]", type=click.Path(), required=False)
@click.option("--out", required=True, type=click.Path(), help="Folder of the store, NAME.store by custom.")
@click.option(
    "--features",
    multiple=True,
    callback=parse_pairs,
    metavar="NAME=FILE",
    help="A readout from an .npy file. Repeatable.",
)
@click.option(
    "--readout", "readouts", multiple=True, help="Feature columns of a parquet file, or the name for an .npy file."
)
@click.option("--keys", type=click.Path(), help="One key a row: text lines, or .npy.  [default: row numbers]")
@click.option("--labels", type=click.Path(), help="Class names as text lines, or .npy of names or numbers (-1: none).")
@click.option("--classes", type=click.Path(), help="Class names in order, as text lines.")
@click.option("--hashes", type=click.Path(), help="Content hashes of the images, .npy of uint8 (N, 16).")
@click.option(
    "--images-dir", type=click.Path(), help="Folder of the images, that keys are relative to; they are stored."
)
@click.option("--key-column", default="key", help="Of a parquet file.")
@click.option("--label-column", default="label", help="Of a parquet file.")
@click.option("--image-column", default="image", help="Of a parquet file; taken where it is there.")
@click.option("--teacher", help="What made the features.  [default: unknown]")
@click.option(
    "--note", "notes", multiple=True, callback=parse_pairs, metavar="K=V", help="More of what made them. Repeatable."
)
@click.option(
    "--dtype",
    type=click.Choice(["float16", "float32"]),
    help="Of the stored features.  [default: float16 stays, others become float32]",
)
@click.option("--rows-per-shard", type=int, default=8192, help="Rows per file of the store.")
@click.option("--overwrite", is_flag=True, help="Delete the store that is there, and begin anew.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(as_json: bool, **options: Any) -> None:
    """Write features that are there already, FEATURES, into a store.

    FEATURES is an .npy file, a .parquet file, or a folder that tcs cache export wrote; several readouts come as --features
    NAME=FILE.npy. Teacher and preprocessing are recorded as unknown unless told. Run the same command again to resume.
    """
    config = ImportConfig(**options)
    from tcs.cli.cache.info import stamp, tell
    from tcs.exchange.features import import_features

    before = stamp(config.out)
    tell(str(import_features(config)), as_json, before)
