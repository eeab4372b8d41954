import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mote.config import Config, ConfigError, dump, load, parse_yaml
from mote.config.unused import unused


def test_defaults_survive_a_round_trip(tmp_path):
    for config in (Config(), load([], ["optim.lr=1e-4", "loss.merge_temperatures=[1, .inf]", "model.layers=0"])):
        (tmp_path / "c.yaml").write_text(dump(config))
        assert load([tmp_path / "c.yaml"]) == config


def test_files_merge_left_to_right_then_overrides(tmp_path):
    (tmp_path / "a.yaml").write_text("optim: {lr: 1e-3, epochs: 3}\nseed: 1\n")
    (tmp_path / "b.yaml").write_text("optim: {lr: 2e-3}\n")
    config = load([tmp_path / "a.yaml", tmp_path / "b.yaml"], ["seed=7"])
    assert (config.optim.lr, config.optim.epochs, config.seed) == (2e-3, 3, 7)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_read_as_python_writes_them(value):
    assert parse_yaml(repr(value)) == value and isinstance(parse_yaml(repr(value)), float)


def test_plain_words_and_versions_stay_strings():
    assert parse_yaml("[e1, ViT-B-16, 1.2.3, e, '.']") == ["e1", "ViT-B-16", "1.2.3", "e", "."]
    assert yaml.safe_load("1e-4") == "1e-4"  # why the resolver is replaced at all


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lrr=1", "optim.lrr: unknown key; did you mean 'lr'?"),
        ("zzz=1", "zzz: unknown key; known keys: seed, task"),
        ("optim.epochs=true", "optim.epochs: Input should be a valid integer, got True"),
        ("optim.epochs=1.5", "optim.epochs: Input should be a valid integer"),
        ("optim.lr=fast", "optim.lr: Input should be a valid number"),
        ("data.flip=1.5", "data.flip: Input should be less than or equal to 1"),
        ("evaluation.crops=2", "evaluation.crops: Input should be 1 or 3, got 2"),
        ("optim=3", "optim: Input should be an object"),
        ("lr", "override 'lr': expected key=value"),
    ],
)
def test_a_mistake_is_one_helpful_line(override, message):
    with pytest.raises(ConfigError) as error:
        load([], [override])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_two_mistakes_are_two_lines():
    with pytest.raises(ConfigError) as error:
        load([], ["optim.lrr=1", "data.framez=2"])
    assert len(str(error.value).splitlines()) == 2


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot read"):
        load([tmp_path / "nowhere.yaml"])
    (tmp_path / "bad.yaml").write_text("optim: [1,\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml: not valid YAML"):
        load([tmp_path / "bad.yaml"])
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match=r"list\.yaml: expected a mapping"):
        load([tmp_path / "list.yaml"])


def test_combinations_that_cannot_train_are_refused():
    with pytest.raises(ConfigError, match="nothing to train"):
        load([], ["model.layers=0", "optim.backbone_lr_scale=0", "data.train=x"])
    with pytest.raises(ConfigError, match="needs a frozen CLIP tower"):
        load([], ["data.cache_features=true"])


def test_settings_without_effect_are_named():
    idle = unused(load([], ["model.layers=0", "model.experts=2", "loss.merged_weight=1", "data.stride=2"]))
    assert [line.split(":")[0] for line in idle] == ["model.experts", "loss.merged_weight", "data.stride"]
    assert unused(Config()) == []
