"""Which files are images by their names, which formats are decoded, and what to say of images that are not.

Everything that a person would call an image stands here: it is read, or it is left out by name.
"""

import functools
import posixpath
from collections import Counter
from collections.abc import Iterable, Mapping

from PIL import Image, features

# By content, whatever the name says. Nothing that starts a program, follows a name in the file, or is known by weak signs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "DIB", "PPM", "JPEG2000", "AVIF", "HEIF")

READ = "png apng jpg jpeg jpe jfif mpo jp2 j2k jpx jpf webp bmp dib gif tif tiff ppm pgm pbm pnm"
ALWAYS = frozenset(f".{name}" for name in READ.split())
AVIF = frozenset((".avif",))
HEIF = frozenset((".heic", ".heif", ".hif"))

INSTALL_HEIF = 'pip install "tcs-distill[heif]"'
INSTALL_AVIF = 'pip install "pillow>=11.3"'
CONVERT = "convert to PNG or JPEG first"
RAW = "3fr ari arw bay cap cr2 cr3 crw dcr dng erf fff gpr iiq k25 kdc mef mos mrw nef nrw orf pef ptx r3d raf raw rw2 rwl sr2 srf srw x3f"
OTHER = "ai bpg cdr dcm dds dicom emf eps exr fits flif hdr icns ico jls jxl jxr nii pam pcx pfm psb psd qoi sgi svg svs tga wdp wmf xcf"
OTHER_IMAGES: Mapping[str, str] = {
    **{f".{name}": f"{CONVERT} (raw photographs have no pixels of their own)" for name in RAW.split()},
    **{f".{name}": CONVERT for name in OTHER.split()},
}
# By content: what a file of another name is. ISO/IEC 23008-12 and the AVIF specification, brands of the box `ftyp`.
HEIF_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"))
AVIF_BRANDS = frozenset((b"avif", b"avis"))
STARTS: Mapping[bytes, str] = {
    b"8BPS": "a Photoshop file",
    b"%!PS": "a PostScript file",
    b"%PDF": "a PDF file",
    b"\xff\x0a": "a JPEG XL file",
    b"\0\0\0\x0cJXL ": "a JPEG XL file",
    b"\x76\x2f\x31\x01": "an OpenEXR file",
    b"\xd7\xcd\xc6\x9a": "a Windows metafile",
    b"<svg": "an SVG file",
    b"FUJIFILMCCD-RAW": "a raw photograph",
}

NO_ROOM = ("failed to map segment", "annot allocate memory")  # what the loader of libraries says where memory is short
NAMED, KINDS = 3, 8  # files of each kind, kinds of what is no image


@functools.cache
def formats() -> tuple[str, ...]:
    """Those of `FORMATS` that can be decoded with what is installed here."""
    _register_heif()
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@functools.cache
def extensions() -> frozenset[str]:
    """The extensions of files that are read as images, with what is installed here."""
    has_avif = "AVIF" in formats() and features.check("avif")  # a Pillow that does not know it warns of the question
    found = ALWAYS | (AVIF if has_avif else frozenset())
    return found | HEIF if _register_heif() else found


@functools.cache
def _register_heif() -> bool:
    """Let Pillow read HEIF, by pillow-heif where it is installed. MemoryError where its libraries find no room."""
    try:
        import pillow_heif

        pillow_heif.register_heif_opener(thumbnails=False)  # where a library of it does not load, its first use says so
    except ModuleNotFoundError:
        return False
    except ImportError as error:
        if any(map(str(error).count, NO_ROOM)):
            raise MemoryError(str(error)) from error
        return False
    return True


def is_image(name: str) -> bool:
    """Whether the file name ends as images do that can be read here."""
    return extension_of(name) in extensions()


def extension_of(name: str) -> str:
    """The end of a name with its dot, in small letters."""
    return posixpath.splitext(name)[1].lower()


def remedy_for(extension: str) -> str | None:
    """What makes images of that extension readable; None where these are no images."""
    if extension in HEIF:
        return INSTALL_HEIF
    return INSTALL_AVIF if extension in AVIF else OTHER_IMAGES.get(extension)


def unread(data: bytes) -> str:
    """What the bytes are that no format of ours begins so, and what to do, as a reason."""
    if data[4:8] == b"ftyp" and data[8:12] in HEIF_BRANDS:
        return "a HEIC file that is damaged" if extensions() >= HEIF else f"a HEIC file: {INSTALL_HEIF}"
    if data[4:8] == b"ftyp" and data[8:12] in AVIF_BRANDS:
        return "an AVIF file that is damaged" if extensions() >= AVIF else f"an AVIF file: {INSTALL_AVIF}"
    found = next((what for start, what in STARTS.items() if data.startswith(start)), None)
    return "not an image file" if found is None else f"{found}: {CONVERT}"


def left_out(names: Iterable[str]) -> tuple[str, ...]:
    """Sentences on files that are not read: each kind of image with names and a remedy, and how many others there are, by extension."""
    by_extension: dict[str, list[str]] = {}
    for name in names:
        by_extension.setdefault(extension_of(name), []).append(name)
    told = []
    for extension, found in sorted(by_extension.items(), key=lambda item: (-len(item[1]), item[0])):
        remedy = remedy_for(extension)
        if remedy is not None:
            told.append(f"{_files(len(found))} {extension} left out ({_some(found)}): {remedy}.")
    others = {extension: found for extension, found in by_extension.items() if remedy_for(extension) is None}
    if others:
        total = sum(map(len, others.values()))
        most = Counter({extension: len(found) for extension, found in others.items()}).most_common(KINDS)
        kinds = ", ".join(f"{count:,} {end or f'without an extension ({_some(others[end])})'}" for end, count in most)
        more = f" and {len(others) - KINDS} more kinds" if len(others) > KINDS else ""
        what = "is no image" if total == 1 else "are no images"
        told.append(
            f"{_files(total)} left out that by {'its name' if total == 1 else 'their names'} {what}: {kinds}{more}."
        )
    return tuple(told)


def _files(count: int) -> str:
    return f"{count:,} file" if count == 1 else f"{count:,} files"


def _some(names: list[str]) -> str:
    shown = sorted(names)[:NAMED]
    return ", ".join(shown) + (" ..." if len(names) > NAMED else "")
