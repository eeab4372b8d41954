from pathlib import Path

import pytest
import yaml

from mote.config import Config, ConfigError, dump, load, parse_yaml, read_run_tree, validate

BEFORE = Path(__file__).with_name("run_before_the_rename") / "config.yaml"  # of a run when the backbone was "clip"


def test_defaults_survive_a_round_trip(tmp_path):
    for config in (Config(), load([], ["optim.lr=1e-4", "loss.merge_temperatures=[1, .inf]", "model.layers=0"])):
        (tmp_path / "c.yaml").write_text(dump(config))
        assert load([tmp_path / "c.yaml"]) == config


def test_files_merge_left_to_right_then_overrides(tmp_path):
    (tmp_path / "a.yaml").write_text("optim: {lr: 1e-3, epochs: 3}\nseed: 1\n")
    (tmp_path / "b.yaml").write_text("optim: {lr: 2e-3}\n")
    config = load([tmp_path / "a.yaml", tmp_path / "b.yaml"], ["seed=7"])
    assert (config.optim.lr, config.optim.epochs, config.seed) == (2e-3, 3, 7)


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
        ("model.clip=tiny", "model.clip: unknown key; did you mean 'backbone'? The setting was renamed"),
        ("optim.clip_lr_scale=0", "optim.clip_lr_scale: unknown key; did you mean 'backbone_lr_scale'? The setting"),
    ],
)
def test_a_mistake_is_one_helpful_line(override, message):
    with pytest.raises(ConfigError) as error:
        load([], [override])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_an_override_that_is_no_yaml_is_refused_and_not_taken_as_a_text():
    for override in ("run.out=[a", "tuning.freeze=*.bias", "run.out=a #2", "run.out=", "run.out=!!set {a}", "a..b=1"):
        with pytest.raises(ConfigError) as error:
            load([], [override])
        assert str(error.value).startswith(f"override {override!r}: ") and "\n" not in str(error.value)


def test_texts_that_look_like_something_else_survive_a_round_trip(tmp_path):
    for text in ("1e-4", "010", "0o7", "1:30", "yes", "2024-01-01", "null", ".inf", "\N{GRINNING FACE}", "a: b", "-"):
        config = validate({"data": {"split": text}, "image": {"mean": [0.5], "std": [0.5]}})
        (tmp_path / "c.yaml").write_text(dump(config), encoding="utf-8")
        assert load([tmp_path / "c.yaml"]) == config


def test_a_warm_up_from_below_is_cut_with_a_word_and_one_set_beside_the_epochs_is_refused(tmp_path):
    (tmp_path / "recipe.yaml").write_text("data: {train: x}\noptim: {epochs: 30, warmup_epochs: 5}\n")
    for files, overrides in (([tmp_path / "recipe.yaml"], []), ([], ["data.train=x"])):  # a recipe's, the default
        said = r"^optim\.warmup_epochs=5 does not fit into optim\.epochs=1: cut to 0\.5$"
        with pytest.warns(UserWarning, match=said):
            config = load(files, [*overrides, "optim.epochs=1"])
        assert (config.optim.epochs, config.optim.warmup_epochs) == (1, 0.5)
        assert load([], ["data.train=x", "optim.epochs=6"]).optim.warmup_epochs == 5
        with pytest.raises(ConfigError, match=r"optim\.warmup_epochs=5 must be less than optim\.epochs=5"):
            load(files, [*overrides, "optim.epochs=5", "optim.warmup_epochs=5"])
    with pytest.raises(ConfigError, match=r"optim\.warmup_epochs=40 must be less than optim\.epochs=30"):
        load([tmp_path / "recipe.yaml"], ["optim.warmup_epochs=40"])


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


def test_a_run_from_before_there_was_a_choice_of_preprocessing_keeps_its_own(tmp_path):
    tree = yaml.safe_load(dump(load([], [])))
    for key in ("interpolation", "resize", "fill", "mean", "std"):
        del tree["data"][key]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    data = load([tmp_path / "config.yaml"]).data
    assert (data.interpolation, data.resize) == ("bilinear", "crop")
    (tmp_path / "config.yaml").write_text("data: {train: a.txt, frames: 4}")  # a user's own
    assert load([tmp_path / "config.yaml"]).data.interpolation is None


def test_a_run_directory_may_have_the_old_names_of_settings(tmp_path):
    config = load([BEFORE], ["seed=3"])
    assert (config.model.backbone, config.optim.backbone_lr_scale, config.image.net) == ("ViT-B-32", 0.1, "backbone")
    assert (config.data.frames, config.run.out, config.seed) == (16, "runs/fight", 3)
    tree, text = read_run_tree(BEFORE), BEFORE.read_text()
    assert (tree["data"].pop("interpolation"), tree["data"].pop("resize")) == ("bilinear", "crop")
    assert len(text.splitlines()) == len(yaml.safe_dump(tree).splitlines())  # nothing else is lost or added
    for old, new in (("clip:", "backbone:"), ("clip_lr_scale:", "backbone_lr_scale:"), ("net: clip", "net: backbone")):
        assert f"  {old}" in text
        text = text.replace(f"  {old}", f"  {new}")
    assert parse_yaml(text) == tree
    (tmp_path / "config.yaml").write_text(dump(config))
    assert read_run_tree(tmp_path / "config.yaml") == parse_yaml(dump(config))  # today's names stay


def test_a_file_of_the_users_own_must_have_todays_names(tmp_path):
    (tmp_path / "mine.yaml").write_text(BEFORE.read_text())
    with pytest.raises(ConfigError) as error:
        load([tmp_path / "mine.yaml"])
    assert str(error.value).splitlines() == [
        "model.clip: unknown key; did you mean 'backbone'? The setting was renamed",
        "optim.clip_lr_scale: unknown key; did you mean 'backbone_lr_scale'? The setting was renamed",
    ]
