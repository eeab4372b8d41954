"""Lines of results: one number has one name, wherever it stands."""

from mote.reporting.evaluation_numbers import numbers_table, scored_text
from mote.reporting.headline import headline, protocol_headline

PART = {"top1": 0.5, "top1_interval": [0.1, 0.9], "top1_correct": 1, "top5": 1.0, "top5_interval": [0.3, 1.0]}
PART |= {"top5_correct": 2, "mean_class_recall": 0.5, "listed": 2, "scored": 2, "per_class": []}


def joint(*parts) -> dict:
    rules = {"fields": {"subsets": "all"}, "identifier": "folder-zs@1", "departures": []}
    lists = {f"test{number}": part for number, part in enumerate(parts)}
    numbers = {"top1": 0.5, "top1_std": None, "top5": 1.0, "top5_std": None}
    return {**numbers, "lists": lists, "protocol": rules, "scored": 2, "listed": 2, "over": "one list"}


def test_of_two_classes_the_protocols_line_says_top_2_as_that_of_its_list():
    part = {**PART, "num_classes": 2, "top5_k": 2}
    assert "top-2 100.0" in headline(part) and "top-2 100.0" in protocol_headline(joint(part))
    halves = {"halves": {"per_subset": [{"top5_k": 3}]}, "top5_k": 5}
    assert "top-3 100.0" in protocol_headline(joint({**PART, **halves}))
    assert "top-5 100.0" in protocol_headline(joint({**PART, "top5_k": 5}))
    assert [row["measure"] for row in numbers_table(part)][:2] == ["top-1 (%)", "top-2 (%)"]


def test_of_one_class_top_1_stands_there_once():
    part = {**PART, "num_classes": 1, "top5_k": 1}
    for line in (headline(part), protocol_headline(joint(part))):
        assert line.count("top-") == 1
    assert [row["measure"] for row in numbers_table(part)] == ["top-1 (%)", "mean class recall (%)"]


def test_images_are_not_called_clips():
    provenance = {"config": {"evaluation": {"manifest": "a.txt", "clips": 1, "crops": 1, "fusion": "mean_softmax"}}}
    part = {**PART, "num_classes": 2, "top5_k": 2, "calibration": {"ece": 0.1, "count": 2}, "provenance": provenance}
    assert "clip" in scored_text(part)
    images = {**part, "items": "images"}
    texts = [scored_text(images), headline(images), *(f"{row}" for row in numbers_table(images))]
    assert not [text for text in texts if "clip" in text] and "2 images" in texts[-1]


def test_numbers_of_a_kind_that_is_not_known_are_named():
    assert headline({"error": 0.123456, "images": 48, "note": "of a run"}) == "error 0.12346, images 48"
