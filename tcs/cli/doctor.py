"""`tcs doctor`."""

import dataclasses
import json
import sys

import click


@click.command()
@click.argument("folder", type=click.Path(), default=".")
@click.option("--network", is_flag=True, help="Also ask whether the Hugging Face Hub answers.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(folder: str, network: bool, as_json: bool) -> None:
    """Check Python, packages, GPU, memory and FOLDER, where stores and runs shall go; exit code 1 where something is wrong.

    Each line is ok, warning or error, with what to do about it.
    """
    from tcs.doctor.diagnose import diagnose
    from tcs.doctor.finding import ERROR

    found = diagnose(folder, network)
    is_well = all(finding.level != ERROR for finding in found)
    if as_json:
        click.echo(json.dumps({"ok": is_well, "findings": [dataclasses.asdict(finding) for finding in found]}))
    else:
        click.echo("\n".join(finding.in_words() for finding in found))
    sys.exit(0 if is_well else 1)
