"""The table of losses: every entry trains something that is not the start, and the strings that compose them."""

import pytest

from tcs.errors import ConfigError
from tcs.losses import LossTerm, parse_loss, reads


def test_a_loss_string_is_a_weighted_sum() -> None:
    assert parse_loss("ce + 0.5*elsh+2*l2") == (
        LossTerm(name="ce", weight=1.0),
        LossTerm(name="elsh", weight=0.5),
        LossTerm(name="l2", weight=2.0),
    )
    assert reads(parse_loss("ce + elsh")) == {"labels", "bits"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cee", "known losses are ce, kd, .*Did you mean ce"),
        ("ce + ce", "each loss may stand in it once"),
        ("ce elsh", "not NAME or WEIGHT"),
        ("", "not NAME or WEIGHT"),
        ("0*ce", "must be a positive number"),
        ("1..2*ce", "is not a number"),
        ("1e999*ce", "must be a positive number"),
    ],
)
def test_bad_loss_strings_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_loss(text)
