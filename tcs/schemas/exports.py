"""tcs.json of an exported student, which is also in the metadata of its weights or of its ONNX file."""

from typing import Annotated, Any

import msgspec

from tcs.schemas.values import Format, Side, Temperature, Three, ThreePositive


class ExportTransform(msgspec.Struct):
    """How images become pixels: the side of the square, mean and standard deviation of each colour in [0, 1]."""

    img_size: Side
    mean: Three
    std: ThreePositive
    interpolation: str = "bicubic"
    crop: str = ""


class TimmImages(msgspec.Struct):
    """How the images of a folder of timm's layout are made, as timm resolves its config.json: colours, height and width, ..."""

    input_size: Annotated[list[Side], msgspec.Meta(min_length=3, max_length=3)]
    mean: Three
    std: ThreePositive
    interpolation: str
    crop_pct: Annotated[float, msgspec.Meta(ge=0.01, le=10)]
    crop_mode: str


class ExportCard(msgspec.Struct):
    """What has to be known of a student to use it. `classes` are in the order of the outputs."""

    format: Format
    architecture: str
    kwargs: dict[str, Any]
    classes: list[str]
    transform: ExportTransform
    preprocess_in_graph: bool = False
    temperature: Temperature | None = None
    teacher: dict[str, Any] | None = None
    run: dict[str, Any] | None = None
