"""What narrow windows have to know of a page: which words of code may break, and where, and which cells of tables hold sentences.

docs/static/site.css says what is done with either.
"""

import re

from sphinx.application import Sphinx

LONGEST_WHOLE = 30  # characters of a word of code; a line of a telephone has room for about 40
JOINTED = (
    12  # from which on a word of code breaks behind its dots and strokes, where it may break at all, and not anywhere
)
SENTENCE = 24  # characters from which on a cell is not to be a column of single words
WORD = re.compile(r'<span class="pre">((?:[^<&]|&\w+;)+)</span>')
JOINT = re.compile(r"(?<=\w)([._/,=])(?=\w)")
MARKED = re.compile(r'(<span class="pre(?: long)?">)((?:[^<&]|&\w+;)+)</span>')
CELL = re.compile(r"<td>(.*?)</td>", re.DOTALL)


def marked(body: str) -> str:
    """The HTML with the class `long` at words of code that may break, their joints, and `sentence` at cells that keep some width."""
    body = WORD.sub(lambda found: _if_longer(found, LONGEST_WHOLE, 'class="pre"', 'class="pre long"'), body)
    body = MARKED.sub(_jointed, body)
    body = CELL.sub(lambda found: found[0].replace(" -&gt; ", " → "), body)  # an arrow of two signs breaks between them
    return CELL.sub(lambda found: _if_longer(found, SENTENCE, "<td>", '<td class="sentence">'), body)


def _jointed(found: re.Match[str]) -> str:
    opening, word = found.groups()
    return opening + (JOINT.sub(r"\1<wbr>", word) if len(word) > JOINTED else word) + "</span>"


def _if_longer(found: re.Match[str], most: int, plain: str, other: str) -> str:
    text = re.sub(r"&\w+;", "x", re.sub(r"<[^>]*>", "", found[1]))
    return found[0].replace(plain, other, 1) if len(text) > most else found[0]


def _mark(_app: Sphinx, _page: str, _template: str, context: dict[str, object], _tree: object) -> None:
    body = context.get("body")
    if isinstance(body, str):
        context["body"] = marked(body)


def setup(app: Sphinx) -> None:
    """Do it on every page."""
    app.connect("html-page-context", _mark)
