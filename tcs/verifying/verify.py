"""`tcs verify PATH`."""

from tcs.config.plain import AnyPath, given_path
from tcs.errors import ArtefactError
from tcs.verifying.kinds import kind_of
from tcs.verifying.outcome import ArtefactVerification, Notes

KINDS = (
    "PATH is a store, coordinates, targets, a run or a student of it, a grid, results of tcs probe, an export, a split file, a file of "
    "one of these folders, or a folder of several, as of tcs distill"
)


def verify(path: AnyPath) -> ArtefactVerification:
    """Read all of what tcs wrote at `path`, a file or folder, and list all that is wrong with it. Writes nothing, takes no lock, and asks
    no network.

    What a rerun would finish (an open store, a student in training, cells of a grid) counts as wrong. ArtefactError where there is
    nothing, or nothing of tcs.
    """
    place = given_path("path", path)
    if not place.exists():
        raise ArtefactError(f"'{place}' does not exist; {KINDS}.")
    try:
        kind = kind_of(place)
    except OSError as error:
        if isinstance(error, ArtefactError):
            raise
        raise ArtefactError(f"{place} cannot be read ({error.strerror}); correct that, and run again.") from error
    if kind is None:
        raise ArtefactError(f"{place} is nothing that tcs wrote; {KINDS}.")
    notes = Notes()
    kind.run(place, notes)
    return ArtefactVerification(
        path=place, kind=kind.name, checked=tuple(notes.checked), problems=tuple(notes.problems)
    )
