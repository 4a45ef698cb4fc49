"""Values with bounds, so that no number of a file makes a program of ours take memory or time without end."""

from typing import Annotated

import msgspec

from tcs.config.pixels import LARGEST_SIDE

Count = Annotated[int, msgspec.Meta(ge=0, le=10**15)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=10**15)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
Side = Annotated[int, msgspec.Meta(ge=1, le=LARGEST_SIDE)]
Number = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]
Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
Two = Annotated[list[float], msgspec.Meta(min_length=2, max_length=2)]
Three = Annotated[list[Number], msgspec.Meta(min_length=3, max_length=3)]
ThreePositive = Annotated[list[Annotated[float, msgspec.Meta(gt=0, le=1e6)]], msgspec.Meta(min_length=3, max_length=3)]
Temperature = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
Power = Annotated[float, msgspec.Meta(ge=0, le=1e3)]
Format = Annotated[int, msgspec.Meta(ge=1, le=10**6)]
