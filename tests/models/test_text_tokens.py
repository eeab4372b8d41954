"""Names that a text tower cannot tell apart are refused; names that it does not read to the end are warned of."""

import warnings

import pytest

from mote.models.clip import encode_classes, load_backbone


@pytest.mark.filterwarnings("ignore:tiny CLIP has no token")
def test_names_that_are_equal_to_the_tower_are_refused_and_cut_ones_are_warned_of():
    towers, long = load_backbone("tiny"), "red star " * 40
    with pytest.raises(ValueError, match="'red star' and 'Red_Star' are the same 32 tokens"):
        encode_classes(towers, ["red star", "orange cross", "Red_Star"], ["a video of {}.", "{}"])
    with pytest.raises(ValueError, match=r"'red star .*left' and 'red star .*right' are the same 32 tokens"):
        encode_classes(towers, [f"{long}left", f"{long}right"], ["a video of {}."])
    with pytest.warns(UserWarning, match=r"reads 32 tokens, and does not see the end of 'red star .*left'$"):
        encode_classes(towers, [f"{long}left", "orange cross"], ["a video of {}."])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encode_classes(towers, ["red " * 30, "orange cross"], ["{}"])  # start, 30 words and end are 32 tokens
    for names in (["red", ""], ["red", "\u200b"], ["red", "r\u200bed"]):
        with pytest.raises(ValueError, match=r"is empty|are one name"):
            encode_classes(towers, names, ["{}"])
