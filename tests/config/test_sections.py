"""Ranges of the settings: what is absurd or contradicts itself is one line with its key, and every leaf has a range."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mote.config import Config, ConfigError, YamlError, dump, load, parse_yaml, validate
from mote.config.sections import Section

LEAVES = {f"{name}.{key}": value for name, part in Config() if isinstance(part, Section) for key, value in part}
LEAVES |= {name: part for name, part in Config() if not isinstance(part, Section)}
TEMPERATURES = {"loss.route_temperature", "loss.merge_temperatures"}  # .inf means something there


PAIRS = {"data.crop_scale", "optim.betas"}


def message(*overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        load([], overrides)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("key", [key for key, value in LEAVES.items() if type(value) in (int, float)])
def test_numbers_are_finite_and_not_absurd(key):
    for text in ("-1", ".nan", "-.inf", "''", "[]", *(() if key in TEMPERATURES else ("1e30", ".inf", str(2**63)))):
        assert message(f"{key}={text}").startswith(f"{key}: "), text


@pytest.mark.parametrize("key", [key for key, value in LEAVES.items() if value is None or type(value) is str])
def test_what_may_be_nothing_is_not_absurd(key):
    for text in ("''", "' '", '"a\\nb"', "-1", "1e30", ".nan", "[[]]", "{}"):
        assert message(f"{key}={text}").startswith(key), text


@pytest.mark.parametrize(
    "key", sorted(key for key in LEAVES if isinstance(LEAVES[key], tuple | dict) and key not in PAIRS)
)
def test_lists_hold_nothing_absurd(key):
    for text in ("1", "x", "['']", "[.nan]", "[[]]", "[null]"):
        assert message(f"{key}={text}").startswith(key), text


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optim.betas=[0.9, 1.0]", "optim.betas.1: "),
        ("optim.milestones=[3, 3]", "optim: optim.milestones=[3.0, 3.0]: write the epochs in rising order"),
        ("optim.schedule=step", "optim: optim.schedule=step needs optim.milestones"),
        ("optim.method=sgd", "optim: optim.method=sgd adds weight decay to the gradient"),
        ("optim.lr_decay=0", "optim.lr_decay: "),
        ("optim.betas=[0.9]", "optim.betas.1: Field required"),
        ("data.crop_scale=[0.9, 0.1]", "data.crop_scale: expected the smallest area and then the largest"),
        ("data.crop_scale=[0, 0]", "data.crop_scale: expected"),
        ("loss.merge_temperatures=[1, 0]", "loss.merge_temperatures: a temperature must be a number other than 0"),
        ("loss.merge_temperatures=[]", "loss.merge_temperatures: is empty"),
        ("image.mean=[]", "image.mean: is empty"),
        ("image.std=[0]", "image.std.0: "),
        ("mixing.methods=[mixup, mixup]", "mixing.methods: names mixup twice"),
        ("run.trackers=[wandb, wandb]", "run.trackers: names wandb twice"),
        ("tuning.freeze=[a, a]", "tuning.freeze: names a twice"),
        ("sparsity.layers={}", "sparsity.layers: is empty"),
        ("sparsity.layers={'': 1}", "sparsity.layers.: is empty"),
        ("sparsity.groups=[]", "sparsity: "),
        ("model={layers: 500, experts: 500}", "model: 500 layers of 500 experts"),
        ("run.out=~/runs", "run.out: `~` is not the home folder"),
        (f"run.out={'x' * 256}", "run.out: is too long for a path"),
        (f"evaluation.name={'x' * 151}", "evaluation.name: is too long"),
        *((f"evaluation.name={name}", "evaluation.name: is ") for name in ("a/b", "..", ".x", "'a\\b'", "' a'", "''")),
        ("[key]=0", "[key]: unknown key"),
        ("optim.[key]=0", "optim.[key]: unknown key"),
        ("run.cpu=yes", "run.cpu: Input should be a valid boolean, got 'yes'; write true or false"),
        ("data.split=010", "data.split: Input should be a valid string, got 10; put a text that looks like a number"),
    ],
)
def test_an_absurd_value_is_named_with_its_key(override, said):
    assert message(override).startswith(said)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["optim.batch_size=6", "optim.accumulation=4"],
            "optim.batch_size=6 must be a multiple of optim.accumulation=4",
        ),
        (["optim.lr=0.1", "optim.weight_decay=10"], "optim.weight_decay=10 times optim.lr=0.1"),
        (["data.frames=78"], "data.frames=78: the temporal head has positions for 77 frames"),
        (["mixing.methods=[mixup]", "optim.batch_size=2", "optim.accumulation=2"], "mixing needs two samples at once"),
        (
            ["task=autoencoder", "autoencoder.method=ae", f"seed={2**32}"],
            "autoencoder.method=ae takes seeds below 2^32",
        ),
    ],
)
def test_settings_that_contradict_one_another_are_refused(overrides, said):
    assert message("data.train=x", *overrides).startswith(said)


def test_extremes_that_mean_something_are_taken():
    config = load([], ["loss.route_temperature=.inf", "loss.merge_temperatures=[-.inf, -1e-3]", f"seed={2**63 - 1}"])
    assert config.loss.route_temperature == math.inf and config.loss.merge_temperatures[0] == -math.inf
    assert load([], ["data.frames=78", "data.train=x", "model.layers=0"]).data.frames == 78
    assert load([], ["data.crop_scale=[0, 1]", "imbalance.beta=0"]).data.crop_scale == (0, 1)


ODD = st.sampled_from(
    ["0", "-1", "1e30", "-1e-30", ".nan", ".inf", "-.inf", "''", "' '", "../x", "/", ".", "..", "~", "null", "true",
     "yes", "010", "1:30", "2024-01-01", str(2**63), str(2**64), "9" * 500, "[]", "[[]]", "{}", "[1, 1]", "[a, a]",
     "{a: b}", "*a", "&a 1", "!!str 1", "a #b", "#", "[", "{", "'", '"\\ud800"', "\x00", "\udcff", "a\nb", "- a",
     "a: b", "? a", "%", "|", ">"]
)  # fmt: skip
KEYS = st.sampled_from([*LEAVES, *dict(Config()), "optim.lr.x", "x", "optim.", "", "seed.0"]) | st.text(max_size=6)
VALUES = ODD | st.floats().map(repr) | st.integers().map(str) | st.text(max_size=12)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=4))
@pytest.mark.filterwarnings("ignore:optim.warmup_epochs")
def test_whatever_is_set_gives_a_configuration_or_lines_that_say_why_not(pairs):
    try:
        config = load([], [f"{key}={value}" for key, value in pairs])
    except ConfigError as error:
        assert 1 <= len(str(error).splitlines()) <= 30 and all(str(error).split("\n"))
    else:
        assert validate(parse_yaml(dump(config))) == config  # type: ignore[arg-type]


PIECES = st.sampled_from(
    ["optim", "lr", "data", "run", ": ", ":", "\n", "\n  ", "  ", "- ", "{", "}", "[", "]", ",", "&a ", "*a", "!!int ",
     "!x ", "<<", "'", '"', "|\n", ">\n", "#", " #", "---\n", "...", "? ", "%YAML 1.1\n", "010", "1e-4", ".nan", "yes",
     "\t", "\\u"]
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(st.lists(PIECES | st.text(max_size=4), max_size=20).map("".join))
def test_whatever_a_file_holds_is_read_or_refused_in_one_line(tmp_path_factory, text):
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    try:
        parse_yaml(text)
    except YamlError as error:
        assert "\n" not in str(error)
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load([file])
    except ConfigError as error:
        assert len(str(error).splitlines()) <= 30


@pytest.mark.parametrize("policy", ["rand", "rand-m9-mstd0.5-inc1", "rand-m10-n3-p0.5"])
def test_a_policy_that_timm_follows_is_taken(policy):
    assert load([], [f"image.augment={policy}"]).image.augment == policy


@pytest.mark.parametrize("policy", ["rand-m11", "rand-n0", "rand-p1.5", "rand-m3-m4", "augmix-m3", "rand-x1"])
def test_a_policy_that_timm_would_cut_or_not_know_is_refused(policy):
    with pytest.raises(ConfigError, match="rand, then any of m0 to m10"):
        load([], [f"image.augment={policy}"])
