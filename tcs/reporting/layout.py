"""The templates of pages, and the page that needs no template of its own: a headline, then sections of figures, tables and facts."""

import dataclasses
import functools
import importlib.resources
import pathlib
from collections.abc import Sequence

import jinja2
from markupsafe import Markup

from tcs.reporting.charts.palette import DARK, LIGHT, classes, variables
from tcs.reporting.contrast import CLAIM_SEEDS, FEW_SEEDS
from tcs.reporting.page_figures import Panel
from tcs.reporting.sheets import FEW, Sheet

MARK = "<!-- written by tcs report -->"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """A section: what it shows, in this order; what is empty is left out."""

    heading: str
    lede: str = ""
    panels: Sequence[Panel] = ()
    sheets: Sequence[Sheet] = ()
    facts: Sequence[tuple[str, str]] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlainPage:
    """`kind` is what was measured, `notices` are (kind, sentence) to be read first."""

    kind: str
    title: str
    headline: str
    details: Sequence[str]
    parts: Sequence[Part]
    notices: Sequence[tuple[str, str]] = ()


def render_plain(page: PlainPage) -> str:
    """The page as text."""
    return environment().get_template("plain.html").render(page=page, title=page.title)


@functools.cache
def environment() -> jinja2.Environment:
    """The templates: everything in braces is escaped, and a name that is missing is an error."""
    place = pathlib.Path(str(importlib.resources.files("tcs") / "reporting" / "templates"))
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(place),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["style"] = Markup((place / "report.css").read_text()) + Markup(classes())
    made.globals["script"] = Markup((place / "report.js").read_text())
    made.globals |= {"light": variables(LIGHT), "dark": variables(DARK), "mark": Markup(MARK), "few_mark": FEW}
    made.globals |= {"few_seeds": FEW_SEEDS, "claim_seeds": CLAIM_SEEDS}
    return made
