"""Look at the site as a desktop and a telephone show it: which pages are wider than their window, and pictures of all of them.

    make docs
    python scripts/docs_screenshots.py docs/_build/html                       # widths alone: exit code 1 names pages and culprits
    python scripts/docs_screenshots.py docs/_build/html --out pictures        # and pictures/390/how-to/export.png ...
    python scripts/docs_screenshots.py docs/_build/html --out pictures start  # of pages whose address has "start" in it

It needs a Chromium, and nothing that is not in the standard library.
"""

import argparse
import base64
import pathlib
import sys
from collections.abc import Iterator

from devtools import Browser

WIDTHS = (390, 1280)  # CSS pixels: a telephone, a laptop
TALLEST = 15_000  # Chromium draws no taller picture in one piece

# Code, tables and equations may be wider than their boxes, which scroll; drawers are off the page until they are opened. Anything else that
# is wider than its box, be it the page, a box that scrolls or one that cuts off, is told with the innermost elements that stand out.
TOO_WIDE = """
(() => {
  const mayScroll = "pre, .table-wrapper, div.math, .sidebar-drawer, .toc-drawer";
  const page = document.documentElement;
  const nodes = [...document.body.querySelectorAll("*")].filter((node) => !node.closest(mayScroll));
  const boxes = nodes.filter((node) => getComputedStyle(node).overflowX !== "visible" && node.clientWidth > 2);
  const pixels = Math.max(...[page, ...boxes].map((box) => box.scrollWidth - box.clientWidth));
  const out = nodes.filter((node) => node.getBoundingClientRect().right > page.clientWidth + 1);
  const inner = out.filter((node) => !out.some((other) => other !== node && node.contains(other)));
  const names = inner.slice(0, 3).map((node) => `<${node.tagName.toLowerCase()}> ${node.textContent.trim().slice(0, 60)}`);
  return [pixels, names.join("; ")];
})()
"""


# Pictures that this width shows and another did not are loaded now, and not when one scrolls to them.
SHOWN = """
Promise.all([...document.images].filter((image) => image.offsetParent).map(
  (image) => { image.loading = "eager"; return image.decode().catch(() => null); }))
"""


def pages_of(site: pathlib.Path, part: str = "") -> Iterator[str]:
    """Addresses below the site, in order: every page whose address has `part` in it."""
    found = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html") if "_static" not in path.parts)
    return (name for name in found if part in name)


def wider_than_window(browser: Browser) -> str | None:
    """How many pixels the page, or a box that must not, scrolls sideways, and which elements make it; None where none does."""
    pixels, names = browser.value(TOO_WIDE)
    return f"{pixels} px too wide: {names}" if pixels > 1 else None


def picture(browser: Browser, path: pathlib.Path) -> None:
    """Write the whole page that is shown as a PNG."""
    browser.value(SHOWN)
    size = browser.call("Page.getLayoutMetrics")["cssContentSize"]
    clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], TALLEST), "scale": 1}
    drawn = browser.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(base64.b64decode(drawn["data"]))


def look(site: pathlib.Path, out: pathlib.Path | None, part: str) -> list[str]:
    """A line for each page and width at which the page is wider than its window; pictures of all into `out`."""
    complaints = []
    with Browser() as browser:
        for name in pages_of(site, part):
            browser.show((site / name).as_uri())
            for width in WIDTHS:
                browser.resize(width)
                wide = wider_than_window(browser)
                if wide:
                    complaints.append(f"{name} at {width} px: {wide}")
                if out:
                    picture(browser, (out / str(width) / name).with_suffix(".png"))
    return complaints


def main() -> int:
    """Exit code 1 where a page is too wide, or none is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("site", type=pathlib.Path, help="the folder of HTML pages")
    parser.add_argument("part", nargs="?", default="", help="only pages whose address has this in it")
    parser.add_argument("--out", type=pathlib.Path, help="folder of pictures")
    given = parser.parse_intermixed_args()  # PART behind --out, too
    site = given.site.resolve()
    count = sum(1 for _ in pages_of(site, given.part))
    if not count:
        print(f"{given.site}: no page with {given.part!r} in its address; `make docs` builds the site", file=sys.stderr)
        return 1
    complaints = look(site, given.out, given.part)
    print("\n".join([*complaints, f"{count} pages at {' and '.join(map(str, WIDTHS))} px: {len(complaints)} too wide"]))
    return bool(complaints)


if __name__ == "__main__":
    sys.exit(main())
