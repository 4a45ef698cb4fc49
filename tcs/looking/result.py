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
    """A class, or the unlabelled images: the most typical images, best first, and the least, worst first."""

    name: str
    images: int
    most: tuple[TypicalImage, ...]
    least: tuple[TypicalImage, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShownCoordinate:
    """A principal coordinate of the features, its share of their variance, and its extreme images."""

    number: int
    share: float
    low: tuple[str, ...]
    high: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """All of it. `neighbours` nearest images of `asked` images were compared; `maps` names the maps of `mapped` images; `page` is where
    the page is, of `page_bytes`; `notes` say in words what is missing."""

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
