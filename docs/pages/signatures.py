"""Signatures of the pages of the API as a reader would write them: types by their short names, and no list of a hundred options."""

import ast
import re

MOST = 40  # parameters; of a function of more only those without a default are shown, and its page links to all of them

# What Python makes of a type -> what was written.
SHORTER = (
    (re.compile(r"<factory>"), "{}"),
    (re.compile(r"~(?:collections|numpy|pathlib|typing)(?:\.\w+)*\.(?=\w)"), ""),
    (re.compile(r"\b(?:collections\.abc|numpy\.typing|pathlib|typing)\.(?=\w)"), ""),
    (re.compile(r"_Buffer \| _SupportsArray\[.*?\| _NestedSequence\[complex \| bytes \| str\]"), "ArrayLike"),
    (re.compile(r"ndarray\[tuple\[Any, \.\.\.\], dtype\[(\w+(?:\[\w+\])?)\]\]"), r"NDArray[\1]"),
    (re.compile(r"(\d\.\d{4})\d{6,}"), r"\1"),
)


def shorter(text: str) -> str:
    """A signature, an annotation or a default with short names."""
    for found, written in SHORTER:
        text = found.sub(written, text)
    return text


def readable(signature: str) -> str:
    """`(a, *, b=...)` with short names; of more than MOST parameters those that have to be given, and `**options`."""
    signature = shorter(signature)
    try:
        function = ast.parse(f"def f{signature}: ...").body[0]
    except SyntaxError:
        return signature
    assert isinstance(function, ast.FunctionDef)
    given = function.args
    if len(given.args) + len(given.kwonlyargs) <= MOST:
        return signature
    needed = [
        (each, None) for each, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default is None
    ]
    given.kwonlyargs, given.kw_defaults = [each for each, _ in needed], [None for _ in needed]
    given.kwarg = ast.arg("options")
    return f"({ast.unparse(given)})"


def process(
    _app: object, _what: str, _name: str, _of: object, _options: object, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """What autodoc asks before it writes a signature."""
    return signature and readable(signature), returned and shorter(returned)
