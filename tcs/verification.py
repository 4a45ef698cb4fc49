"""A store verified under a progress bar, and the result in words. Loads neither torch nor a teacher."""

import pathlib

import cache
from tcs.runtime import progress_bar


def verified(store: str | pathlib.Path) -> cache.Verification:
    """`cache.verify` of the store, with a progress bar on a terminal. Raises CacheError where there is no store."""
    path = pathlib.Path(store)
    files = [path] if path.is_file() else [file for file in path.glob("shard-*.h5") if file.is_file()]
    with progress_bar(sum(file.stat().st_size for file in files), "verify", "bytes") as bar:
        return cache.verify(store, bar.advance)


def result_lines(found: cache.Verification) -> list[str]:
    """The result in words: a line for each problem, then one for the whole."""
    folder = found.path.parent if found.is_packed else found.path
    told = [f"{folder / problem.file}: {problem.what}" for problem in found.problems]
    what = f"{found.shards} of {found.planned} shards, {found.rows:,} rows, {found.bytes / 1e6:,.1f} MB checked"
    if found.is_sound:
        return [f"{found.path} is sound: {what}."]
    if found.pending:
        told.append(f"{found.path} is incomplete: {len(found.pending)} of {found.planned} shards are not written yet.")
    elif found.state == "open":
        told.append(f"{found.path} is incomplete: it was never closed.")
    remedy = f"tcs cache repair {found.path} writes again what is bad or missing"
    if found.is_packed:
        remedy = "a packed store is not repaired: fetch the file again, or pack it anew from its folder"
    return [*told, f"{found.path}: {_problems(len(found.problems))}, {what}; {remedy}."]


def _problems(count: int) -> str:
    return "1 problem" if count == 1 else f"{count} problems"
