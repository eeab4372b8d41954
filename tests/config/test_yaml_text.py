"""YAML against the core schema of YAML 1.2, value by value, and what is refused with the place."""

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mote.config import YamlError, parse_yaml, to_yaml


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_read_as_python_writes_them(value):
    assert parse_yaml(repr(value)) == value and isinstance(parse_yaml(repr(value)), float)


@pytest.mark.parametrize(
    ("text", "value"),
    [  # https://yaml.org/spec/1.2.2, section 10.3.2
        ("010", 10), ("0o10", 8), ("0x1F", 31), ("-7", -7), ("+7", 7), ("1e-4", 1e-4), ("1.", 1.0), (".5", 0.5),
        (".inf", math.inf), ("-.INF", -math.inf), ("12e03", 12000.0), ("null", None), ("~", None), ("", None),
        ("true", True), ("False", False),
        *((text, text) for text in ("1:30", "1:30:00", "2024-01-01", "2001-12-14 21:59:43.10", "yes", "No", "on")),
        *((text, text) for text in ("OFF", "y", "n", "1_000", "0b101", "0o9", "inf", "nan", "1.2.3", "e1", "tRue")),
        ("'010'", "010"), ('"1e-4"', "1e-4"), ('"\\ud83d\\ude00"', "\N{GRINNING FACE}"), ("[010, yes]", [10, "yes"]),
        ("{1: 2, yes: no}", {"1": 2, "yes": "no"}),
    ],
)  # fmt: skip
def test_plain_words_are_those_of_yaml_1_2(text, value):
    read = parse_yaml(text)
    assert read == value and type(read) is type(value)
    assert parse_yaml(to_yaml({"x": read})) == {"x": value}


def test_not_a_number_is_read():
    assert math.isnan(parse_yaml(".nan"))


def test_pyyaml_alone_reads_something_else():  # why it is not used as it is
    assert yaml.safe_load("[1e-4, 010, 1:30, yes, 2024-01-01]") != parse_yaml("[1e-4, 010, 1:30, yes, 2024-01-01]")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim:\n  lr: 1\n  lr: 2\n", r"^optim\.lr: stands twice; keep one of them \(line 3\)$"),
        ("a: {b: !!set {x}}", r"^a\.b: a tag is not read here"),
        ("a: !!str 010", r"^a: a tag is not read here"),
        ("a: !!python/object/apply:os.system [x]", r"^a: a tag is not read here"),
        ("a: &x 1\nb: *x", r"^a: an anchor is not read here; .* \(line 1\)$"),
        ("b: *x", r"^b: an alias is not read here"),
        ("a:\n  <<: {b: 1}", r"^a\.<<: merge keys are not read here"),
        ("? [a]\n: 1", r"^a key must be a word \(line 1\)$"),
        ('a: "\\ud800"', r"^a: '\\ud800' is no text: half a character"),
        ("a: [1,", r"^not valid YAML: .*\(line 1, column \d+\)$"),
        ("a: 1\n---\nb: 2", r"^not valid YAML: but found another document"),
        ("a: \x00", "not valid YAML: special characters are not allowed|^not valid YAML: unacceptable character"),
        ("[" * 5000, r"more than 20 levels"),
        ("{a: " * 5000, r"^a\.a\.a: more than 20 levels"),
        ("a: " + "9" * 5000, r"^a: a number of more than 400 digits"),
        ("a: &x [*x]", r"^a: an anchor is not read here"),
    ],
)
def test_what_a_setting_could_not_mean_is_one_line_with_its_key(text, message):
    with pytest.raises(YamlError, match=message) as error:
        parse_yaml(text)
    assert "\n" not in str(error.value) and len(str(error.value)) < 200


def test_a_comment_in_an_override_is_not_lost_in_silence():
    assert parse_yaml("runs/a #2") == "runs/a"
    for text in ("runs/a #2", "'runs/a' #2", "#2"):
        with pytest.raises(YamlError, match="comment"):
            parse_yaml(text, override=True)
    assert parse_yaml("runs/a#2", override=True) == "runs/a#2"


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(PLAIN)
def test_what_is_written_is_read_back(value):
    assert parse_yaml(to_yaml(value)) == value
