"""What an evaluation is made on: lists that are read and refused, and what of the settings the views get."""

import numpy as np
import pytest
from PIL import Image

from mote.config import load
from mote.datasets.lists.manifest import ManifestError, Record
from mote.evaluation.listings import check_evaluation, evaluation_list, training_ids, training_list
from mote.evaluation.views import evaluation_dataset, evaluation_loader
from mote.files.preprocessing import Preprocessing


@pytest.fixture
def pictures(tmp_path):
    """Two pictures, a list of them by the ids of a class file, and the class file."""
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "list.csv").write_text("path,label\na.png,n01\nb.png,n02\n")
    (tmp_path / "classes.csv").write_text("id,name\nn01,cat\nn02,dog\n")
    return tmp_path


def settings(*overrides):
    return load([], ["task=image", *overrides])


def test_labels_may_be_ids_of_the_class_file(pictures):
    where = [f"data.train={pictures / 'list.csv'}", f"data.classes={pictures / 'classes.csv'}"]
    config = settings(*where, f"evaluation.manifest={pictures / 'list.csv'}")
    assert [record.label for record in training_list(config).records] == [0, 1]
    assert training_ids(config.data, ["cat", "dog"]) == ["n01", "n02"]
    assert training_ids(config.data, ["dog", "cat"]) is None  # the file is of another network
    assert [record.label for record in evaluation_list(config, ["cat", "dog"]).records] == [0, 1]


def test_pictures_that_are_missing_are_counted_before_any_is_read(pictures):
    (pictures / "b.png").unlink()
    where = [f"data.train={pictures / 'list.csv'}", f"data.classes={pictures / 'classes.csv'}"]
    with pytest.raises(ManifestError, match="1 of 2 files are missing"):
        evaluation_list(settings(*where, f"evaluation.manifest={pictures / 'list.csv'}"), ["cat", "dog"])


def test_places_that_are_not_there_are_named(pictures):
    there = f"evaluation.manifest={pictures / 'list.csv'}"
    check_evaluation(load([], [there, f"evaluation.classes={pictures / 'classes.csv'}"]).evaluation)
    for more in ("evaluation.manifest=lost.txt", "evaluation.root=lost", "evaluation.classes=lost.txt"):
        with pytest.raises(ValueError, match="there is no such file or folder"):
            check_evaluation(load([], [there, more]).evaluation)
    with pytest.raises(ValueError, match=r"evaluation\.manifest is not set"):
        check_evaluation(load([], []).evaluation)


def test_what_a_list_without_names_holds_is_looked_for_and_what_a_folder_holds_is_not(pictures, tmp_path):
    (pictures / "numbers.txt").write_text("a.png 0\nlost.png 1\n")
    with pytest.raises(ManifestError, match="1 of 2 files are missing"):
        check_evaluation(load([], [f"evaluation.manifest={pictures / 'numbers.txt'}"]).evaluation)
    (tmp_path / "folder").mkdir()
    check_evaluation(load([], [f"evaluation.manifest={tmp_path / 'folder'}"]).evaluation)


def test_the_views_of_a_list_are_made_as_the_settings_say():
    config = load([], ["data.sampling=dense", "data.stride=3", "data.decoder=decord", "data.decode_timeout=7"])
    asked = config.evaluation.model_copy(update={"clips": 2, "crops": 3})
    records = [Record("a.mp4", 0), Record("b.mp4", 1)]
    pixels = Preprocessing("bilinear", "squash")
    found = evaluation_dataset(records, asked, config.data, frames=5, size=32, difference=2, preprocessing=pixels)
    names = ("num_frames", "size", "num_clips", "num_crops", "sampling", "stride", "difference", "decoder")
    assert [getattr(found, name) for name in names] == [5, 32, 2, 3, "dense", 3, 2, "decord"]
    assert found.preprocessing == pixels
    loader = evaluation_loader(found, 2, 1, indices=[1, 0, 1])
    assert (loader.batch_size, loader.num_workers, [*loader.sampler]) == (2, 1, [1, 0, 1])
    assert [*evaluation_loader(found, 2, 0).sampler] == [0, 1]
