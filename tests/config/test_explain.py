import warnings

import pytest

from mote.config import Config, ConfigError, load
from mote.config.explain import Setting, close_keys, in_words, named, sections, settings, with_last_name
from mote.config.sections import Section


def leaves(section: Section, prefix: str = "") -> list[str]:
    inner = [(f"{prefix}{name}", value) for name, value in section]
    return [
        key for name, value in inner for key in (leaves(value, f"{name}.") if isinstance(value, Section) else [name])
    ]


def of(key: str) -> Setting:
    (setting,) = named(key)
    return setting


def test_every_leaf_of_the_tree_is_explained_with_type_default_range_and_meaning():
    assert [setting.key for setting in settings()] == leaves(Config())
    for setting in settings():
        assert all(text == text.strip() and len(text) > 0 for text in setting), setting
        assert len(setting.meaning.split()) > 1 and "likewise" not in setting.meaning, setting
        assert "Field" not in f"{setting}" and "noqa" not in setting.meaning


def test_every_default_is_what_an_override_would_say():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load([], [f"{setting.key}={setting.default}" for setting in settings()]) == Config()


def test_a_range_is_that_of_validation():
    """A number at each end of its range is taken, one past it is refused."""
    numbers = 0
    for setting in settings():
        low, to, high = setting.range.partition(" to ")
        if not to or setting.type.split(" or ")[0] not in ("number", "whole number"):
            continue
        numbers += 1
        least, most = (float(eval(end.split()[-1].replace("^", "**"))) for end in (low, high))
        outside = [least if "above" in low else least - 1, most if "below" in high else most * 2]
        for value in outside:
            shown = int(value) if "whole" in setting.type else value
            with pytest.raises(ConfigError, match=f"{setting.key}: Input should be"):
                load([], [f"{setting.key}={shown}"])
    assert numbers > 50


@pytest.mark.parametrize(
    ("key", "kind", "default", "values"),
    [
        ("optim.lr", "number", "5e-5", "1e-20 to 1000"),
        ("model.heads", "whole number or null", "null", "1 to 1000"),
        ("seed", "whole number", "0", "0 to below 2^63"),
        ("data.fill", "list of 3 whole numbers or null", "null", "0 to 255"),
        ("mixing.methods", "list of choices", "[]", "mixup, cutmix, hmix, gmix; none twice"),
        ("image.mean", "list of numbers", "[0.5]", "0 to 1; at least one"),
        ("sparsity.layers", "mapping of text to number", "{'*': 1.0}", "0 to 1e9"),
        ("evaluation.crops", "whole number", "1", "1, 3"),
        ("evaluation.modulation", "true or false or null", "null", "true or false"),
        ("mixing.ratio", "number", "0.5", "above 0 to 1"),
        ("loss.route_temperature", "number", "1.0", "from 1e-20 on, also .inf"),
        ("data.train", "path or null", "null", "not empty"),
    ],
)
def test_a_setting_in_words(key: str, kind: str, default: str, values: str):
    assert of(key)[:4] == (key, kind, default, values)


def test_values_have_their_own_comments():
    assert "; focal = focal loss; " in of("imbalance.method").meaning
    assert of("loss.route_temperature").meaning == "Expert i is drawn by softmax(i / temperature); .inf = all alike"


def test_a_name_is_a_key_a_section_or_the_end_of_keys():
    assert [setting.key for setting in named("mixing.alpha")] == ["mixing.alpha"]
    assert [setting.key for setting in named("optim.lr=1e-4")] == ["optim.lr"]
    assert {setting.key.partition(".")[0] for setting in named("optim")} == {"optim"}
    assert [setting.key for setting in named("batch-size")] == ["optim.batch_size", "evaluation.batch_size"]
    assert with_last_name("nothing") == []
    with pytest.raises(ValueError, match=r"optim.lrr: no section and no setting has this name; did you mean optim.lr"):
        named("optim.lrr")
    with pytest.raises(ValueError, match=r"sections: model, data"):
        named("zebra")
    assert close_keys("epoch") == ["optim.epochs"]
    assert close_keys("optimm") == ["optim"]


def test_settings_as_text():
    text = in_words(["optim.lr"], 60)
    assert "optim.lr: number; 1e-20 to 1000; default 5e-5" in text
    assert "learning rate of the temporal head" in text
    assert all(len(line) <= 60 for line in text.splitlines())
    everything = in_words([])
    assert all(f"{setting.key}: " in everything for setting in settings())
    assert all(f"{section}: " in everything for section in sections())
