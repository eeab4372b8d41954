import open_clip
import pytest

from mote.files.preprocessing import AS_CLIP, CUT_FIRST, Preprocessing, read_preprocessing


def test_a_folder_without_it_keeps_what_it_was_trained_with():
    assert read_preprocessing({}) == CUT_FIRST == Preprocessing("bilinear", "crop")


def test_it_comes_back_from_a_folder():
    value = Preprocessing("bilinear", "longest", (1, 2, 3))
    assert read_preprocessing({"preprocessing": {**value._asdict(), "fill": [1, 2, 3]}}) == value


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"interpolation": "lanczos"}, "interpolation must be one of bicubic, bilinear, got 'lanczos'"),
        ({"resize": None}, "resize must be one of shortest, longest, squash, crop, got None"),
        ({"fill": [0, 0, 256]}, "fill must be three levels"),
        ({"fill": [0, 0]}, "fill must be three levels"),
        ({"fill": True}, "fill must be three levels"),
        ({"other": 1}, "preprocessing must have interpolation, resize, fill"),
    ],
)
def test_what_is_none_is_refused(change, problem):
    with pytest.raises(ValueError, match=problem):
        read_preprocessing({"preprocessing": {**AS_CLIP._asdict(), **change}})


def test_what_is_not_given_stays():
    assert AS_CLIP.changed(interpolation=None, resize="squash", fill=None) == Preprocessing(resize="squash")


def test_the_names_are_those_of_open_clip():
    for name, tag in open_clip.list_pretrained():
        config = open_clip.get_pretrained_cfg(name, tag)
        given = {"interpolation": config["interpolation"], "resize": config["resize_mode"], "fill": 0}
        assert read_preprocessing({"preprocessing": given})[:2] == (config["interpolation"], config["resize_mode"])
