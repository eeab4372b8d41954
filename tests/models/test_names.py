"""Names and tags read from open_clip's files are those that open_clip lists."""

import open_clip
import pytest

from mote.models import names


@pytest.fixture
def unloaded(monkeypatch):
    """As in a process that has not imported open_clip yet."""
    monkeypatch.delitem(names.sys.modules, "open_clip")


def test_architectures_and_tags_are_those_of_open_clip(unloaded):
    known = open_clip.list_models()
    here = [name for name in names.architectures() if not name.startswith("mote-")]
    assert sorted(here) == sorted(name for name in known if not name.startswith("mote-"))
    wanted: dict[str, set[str]] = {name: set() for name in here}
    for name, tag in open_clip.list_pretrained():
        wanted.setdefault(name, set()).add(tag)
    for name, tags in wanted.items():
        assert set(names.tags(name) or []) == tags, name


def test_plain_models_are_built_without_timm_and_transformers(unloaded):
    plain = ("tiny", "ViT-B-16", "ViT-B/16", "ViT-L-14-quickgelu", "RN50")
    other = ("ViT-B-16-SigLIP", "xlm-roberta-base-ViT-B-32", "convnext_base", "coca_ViT-B-32", "hf-hub:a/b", "gone")
    assert [name for name in (*plain, *other) if names.is_plain(name)] == list(plain)


@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [
        ("ViT-B-61", None, "did you mean ViT-B-16"),
        ("ViT-B-16", None, "which weights"),
        ("ViT-B-16", "opnai", "unknown pretrained tag 'opnai'; expected one of its tags .openai"),
        ("ViT-B-16", "gone.pt", "no such checkpoint file"),
        ("tiny", "gone", "no such checkpoint file"),
        ("hf-hub:a/b", "x", "brings its own weights"),
    ],
)
def test_weights_that_cannot_be_are_refused(unloaded, name, pretrained, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        names.check_weights(name, pretrained)


@pytest.mark.parametrize(
    ("name", "pretrained"),
    [("tiny", None), ("ViT-B/16", "openai"), ("ViT-B-16", "OPENAI"), ("ViT-B-16", "random"), ("hf-hub:a/b", None)],
)
def test_weights_that_may_be_pass(unloaded, name, pretrained):
    names.check_weights(name, pretrained)


def test_a_table_of_tags_of_another_form_is_no_reason_to_refuse(unloaded, monkeypatch):
    monkeypatch.setattr(names, "_tags_by_name", lambda: None)
    assert names.tags("ViT-B-16") is None
    names.check_weights("ViT-B-16", "another")
