"""Results in a line."""

from mote.reporting.headline import headline

WHOLE = {
    "top1": 0.5,
    "top1_interval": [0.314, 0.686],
    "top5": 1.0,
    "top5_interval": [0.862, 1.0],
    "top5_k": 3,
    "mean_class_recall": 0.48,
    "scored": 24,
    "listed": 25,
    "num_classes": 3,
}


def test_accuracies_and_what_was_scored():
    line = headline(WHOLE)
    assert line == (
        "top-1 50.0 [31.4, 68.6], top-3 100.0 [86.2, 100.0], mean class recall 48.0 (24 of 25 videos scored, 3 classes)"
    )
    assert "of 25 images scored" in headline(WHOLE | {"items": "images"})


def test_numbers_of_a_kind_that_is_not_known_are_named():
    assert headline({"error": 0.123456, "images": 48, "note": "of a run"}) == "error 0.12346, images 48"
