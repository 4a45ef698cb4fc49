"""The page of an audit: one file without links, that a browser shows as it is. Everything a user named is escaped."""

import base64
import html
import io
from collections.abc import Iterator, Sequence

import cache
from tcs.auditing.findings import AuditFinding
from tcs.auditing.outliers import ClassFacts
from tcs.auditing.result import Audit
from tcs.config.audit import KINDS, AuditConfig
from tcs.images.decode import BadImageError, decode_image
from tcs.images.stored import rules_of

THUMBNAIL_PIXELS, JPEG_QUALITY = 128, 75
MOST_SHOWN = 200  # lines of a kind: about 5 kB a picture, so 1,200 lines of two pictures stay near 10 MB

STYLE = (
    "body{font:15px/1.4 system-ui,sans-serif;margin:2em auto;max-width:75em;padding:0 1em;color:#222}"
    "table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:left;border-bottom:1px solid #ddd}"
    ".grid{display:flex;flex-wrap:wrap;gap:10px}figure{margin:0;width:150px;font-size:12px;overflow-wrap:anywhere}"
    "figure.two{width:280px}img{margin-right:4px;vertical-align:bottom}"
)
TITLES = {
    "label-error": "Labels that look wrong",
    "duplicate": "Exact copies",
    "near-duplicate": "Near copies",
    "leak": "Images that are in a test store, too",
    "conflict": "The same image in two classes",
    "outlier": "Images that look like no other",
}


def page_bytes(found: Audit, store: cache.Store, tests: Sequence[cache.Store], config: AuditConfig) -> bytes:
    """The page, UTF-8. Of every kind the first `config.top` lines (200 at most) are shown with their pictures."""
    stores = {"": store, **dict(zip(config.test, tests, strict=True))}
    pictures = _Pictures(stores)
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Audit of {_text(found.store)}</title>'
        f"<style>{STYLE}</style><h1>Audit of {_text(found.store)}</h1>"
        f"<p>{found.rows:,} images, {found.labelled:,} with a label, near copies from cosine {config.near:g} on.</p>",
        *(f"<p>{_text(note)}</p>" for note in found.notes),
        *(part for kind in KINDS for part in _section(kind, found.of(kind), pictures, min(config.top, MOST_SHOWN))),
        _classes(found.classes),
    ]
    return "\n".join(parts).encode("utf-8", "replace")


def _section(kind: str, lines: list[AuditFinding], pictures: "_Pictures", most: int) -> Iterator[str]:
    shown = lines[:most]
    yield f"<h2>{TITLES[kind]}</h2><p>{len(shown):,} of {len(lines):,} shown.</p>"
    yield '<div class="grid">'
    for line in shown:
        images = pictures.tag("", line.key)
        if line.other_key:
            images += pictures.tag(line.other_store, line.other_key)
        yield f"<figure{' class=two' if line.other_key else ''}>{images}<figcaption>{_caption(line)}</figcaption></figure>"
    yield "</div>"


def _caption(line: AuditFinding) -> str:
    said = f"<b>{_text(line.label)}</b>" + (f", rather <b>{_text(line.suggested)}</b>" if line.suggested else "")
    other = f"<br>{_text(line.other_key)} {_text(line.other_store)}" if line.other_key else ""
    return f"{said} {line.score:.3f}<br>{_text(line.key)}{other}"


def _classes(facts: Sequence[ClassFacts]) -> str:
    rows = "".join(
        f"<tr><td>{_text(item.name)}<td>{item.rows:,}<td>{item.spread:.2f}<td>{'few ' * item.is_few}"
        f"{'one-sided' * item.is_one_sided}"
        for item in facts
    )
    return f"<h2>Classes</h2><table><tr><th>class<th>images<th>spread<th>{rows}</table>" if rows else ""


def _text(text: str) -> str:
    return html.escape(text.encode("utf-8", "replace").decode())


class _Pictures:
    """Thumbnails as text, of the stores that hold images."""

    def __init__(self, stores: dict[str, cache.Store]) -> None:
        self._stores = {name: store for name, store in stores.items() if store.has_images}
        self._row_of = {name: {key: row for row, key in enumerate(store.keys)} for name, store in self._stores.items()}

    def tag(self, name: str, key: str) -> str:
        """An image of a store; nothing where it holds none, or a broken one."""
        if name not in self._stores:
            return ""
        try:
            store = self._stores[name]
            image = decode_image(store.image_bytes(self._row_of[name][key]), rules_of(store))
        except BadImageError:
            return ""
        image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=JPEG_QUALITY)
        return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
