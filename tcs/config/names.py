"""How names of classes and files are compared: by their letters, whatever form a system writes these in.

macOS writes é as e and an accent, all others as one letter; both are the same name (Unicode 15, annex 15: normal form C). Case is not
folded: Rose and rose are two names, and a person is told where both stand on one side.
"""

import unicodedata
from collections.abc import Callable, Iterable

Finder = Callable[[str], str | None]


def same_form(text: str) -> str:
    """The name in normal form C."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def finder(known: Iterable[str]) -> Finder:
    """What gives the spelling among `known` of a name that may be in another normal form; None for a name that is not there."""
    exact = set(known)
    spellings = {same_form(name): name for name in exact if not name.isascii()}  # any other is its own form

    def find(text: str) -> str | None:
        form = same_form(text)
        return text if text in exact else spellings.get(form, form if form in exact else None)

    return find


def clashes(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of different names that differ by case or normal form alone, as the first of both is found."""
    first: dict[str, str] = {}
    found = []
    for name in names:
        other = first.setdefault(same_form(name).casefold(), name)
        if other != name:
            found.append((other, name))
    return found


def told(name: str) -> str:
    """A name in quotes; letters beyond ASCII by their numbers, where it would look like another one."""
    return ascii(name) if same_form(name) != name or not name.isascii() else f"'{name}'"
