"""What a look at a store finds, as Python objects: keys of images and numbers."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeptNeighbours:
    """A space, where it comes from, and its width; of the images asked for, the mean share of their nearest in feature space that are
    nearest here too (`recall`, with its standard error over images, None of one), what chance gives, and the mean share of the nearest
    that carry the image's class (None where no two rows have labels)."""

    space: str
    source: str
    dims: int
    recall: float
    error: float | None
    chance: float
    same_class: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TypicalImage:
    """An image: the mean cosine to the other images of its class, the nearest other image of the store and 1 - the cosine to it."""

    key: str
    centrality: float
    nearest: str
    distance: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class TypicalClass:
    """A class by its `name`, or the unlabelled images: how many (`images`), the most typical, best first, and the least, worst first."""

    name: str
    images: int
    most: tuple[TypicalImage, ...]
    least: tuple[TypicalImage, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShownCoordinate:
    """A principal coordinate of the features by its `number` (from 1, falling variance), its share of their variance (0 to 1), and the
    keys of its extreme images, the outermost first."""

    number: int
    share: float
    low: tuple[str, ...]
    high: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """All of it, of the vectors `readout` of `store`, which has `images` of which `labelled` have a class.

    `kept` has one entry a space, the features themselves first: `space`, `source`, `dims`, and of the `neighbours` nearest of each of
    `asked` images the mean share that is kept (`recall`, 0 to 1, with its standard `error`, None of one image), what `chance` gives,
    and the share that carries the image's class (`same_class`, None without labels). `classes` has one entry a class that is shown:
    `name`, `images`, and the `most` and `least` typical, each a `key`, its `centrality` (mean cosine to its class), the `nearest`
    other image and the `distance` to it (1 - cosine). `coordinates` has one entry a principal axis that is shown: `number`, its
    `share` of the variance (0 to 1), and keys of the images that lie lowest (`low`) and highest (`high`). `maps` names the maps of
    `mapped` images; `page` is where the page is, of `page_bytes`; `notes` say in words what is missing.
    """

    store: str
    readout: str
    images: int
    labelled: int
    neighbours: int
    asked: int
    kept: tuple[KeptNeighbours, ...]
    classes: tuple[TypicalClass, ...]
    coordinates: tuple[ShownCoordinate, ...]
    maps: tuple[str, ...]
    mapped: int
    notes: tuple[str, ...]
    page: str
    page_bytes: int
