"""The site: `make docs`. Pages that are made of commands, docstrings and tables of results are written before Sphinx reads any."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from sphinx.application import Sphinx  # noqa: E402

import tcs  # noqa: E402
from docs.pages import commands, mathml, python_api, results, signatures, words  # noqa: E402
from docs.pages.writing import plain_docstring, write_pages  # noqa: E402

project = "tcs-distill"
author = "the authors of tcs-distill"
copyright = "the authors of tcs-distill, Apache-2.0"  # noqa: A001
version = release = tcs.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "pages", "results/made"]
highlight_language = "text"
smartquotes = False  # of --option they make another word
default_role = "code"

html_theme = "furo"
html_title = "tcs-distill"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_math_renderer = "mathml"

linkcheck_timeout = 30  # seconds
linkcheck_retries = 2

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
myst_dmath_allow_space = False

autodoc_typehints = "signature"
python_maximum_signature_line_length = 100
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False


def setup(app: Sphinx) -> None:
    """Make the pages, and let Sphinx know the renderer of equations and which words of code may break."""
    mathml.setup(app)
    words.setup(app)
    app.connect("autodoc-process-docstring", plain_docstring, priority=400)  # before napoleon reads its sections
    app.connect("autodoc-process-signature", signatures.process)
    docs = ROOT / "docs"
    write_pages(docs / "reference" / "commands", commands.command_pages())
    write_pages(docs / "reference" / "api", python_api.api_pages())
    write_pages(docs / "results" / "made", results.result_parts())
