"""Commands under headings, as a user meets them."""

import click
from click.testing import CliRunner

from tcs.cli import COMMANDS, SECTIONS, group
from tcs.cli.lazy_group import LazyGroup

TABLE = {"late": ("a.late", "Comes late."), "early": ("a.early", "Comes early."), "odd": ("a.odd", "Has no place.")}


def test_every_command_has_one_place() -> None:
    placed = [name for names in SECTIONS.values() for name in names]
    assert len(placed) == len(set(placed))
    assert set(COMMANDS) <= set(placed)


def test_help_lists_commands_under_their_headings_and_the_rest_last() -> None:
    sections = {"First": ("early", "not yet there"), "Empty": ("none",), "Then": ("late",)}
    made = LazyGroup("made", table=TABLE, sections=sections)
    lines = CliRunner().invoke(made, ["--help"]).output.splitlines()
    shown = [line for line in lines if line and not line.startswith(("Usage", "  --"))]
    assert shown[shown.index("First:") :] == [
        "First:",
        "  early  Comes early.",
        "Then:",
        "  late   Comes late.",
        "Commands:",
        "  odd    Has no place.",
    ]
    assert made.list_commands(click.Context(made)) == ["early", "late", "odd"]


def test_a_group_without_sections_lists_its_table() -> None:
    assert LazyGroup("made", table=TABLE).list_commands(click.Context(group)) == list(TABLE)


def test_the_first_heading_is_where_to_start() -> None:
    lines = CliRunner().invoke(group, ["--help"]).output.splitlines()
    headings = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert headings[:4] == ["Options:", "Start here:", "Stages:", "Use a student:"]
    assert [line.split()[0] for line in lines if line.startswith("  ") and line.split()[0] in COMMANDS][:2] == [
        "demo",
        "suggest",
    ]
