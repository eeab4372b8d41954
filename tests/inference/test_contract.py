"""One contract of how clips are made: a model's own way from every place, overrides followed or refused."""

import json
from dataclasses import replace
from pathlib import Path

import evaluated_clips
import numpy as np
import pytest
import torch
from evaluated_clips import settings, write_clips
from PIL import Image
from safetensors import safe_open
from small_towers import small_clip

from mote import load
from mote.cli import main
from mote.config import Config
from mote.config import load as load_config
from mote.config.sections import EvaluationConfig
from mote.datasets import video
from mote.files.preprocessing import CUT_FIRST, Preprocessing
from mote.inference.contract import as_asked, check_named, other_clips, settled
from mote.inference.export import contract, export
from mote.inference.features import _pixels
from mote.inference.images import ImageClassifier
from mote.inference.latent import LatentModel
from mote.inference.loading import load_video
from mote.models.autoencoder import ImageAutoencoder
from mote.models.checkpoints import save_model
from mote.models.clip import _preprocessing, load_backbone
from mote.models.feature_maps import CLIPImages
from mote.models.image_checkpoints import image_classifier, save_net
from mote.models.modulation import GATE, Gate
from mote.models.temporal import TemporalHead
from mote.models.video_clip import VideoCLIP
from mote.regularizers.gaussian_mixture import axis_centres, isotropic

TUNED = list(evaluated_clips.CLASSES)
OWN = {"frames": 4, "size": 64, "sampling": "dense", "stride": 2, "difference": 1, "decoder": "decord"}
GATED = {"modulation": None, "modulation_k": 2, "modulation_gamma": 0.25}
PIXELS = Preprocessing("bilinear", "squash", (1, 2, 3))


def mote(*arguments: object) -> int | str | None:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, 3)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model that makes clips in no usual way, and whose head changes its answers."""
    plain, place = load("tiny", device="cpu"), tmp_path_factory.mktemp("model")
    torch.manual_seed(1)
    head = TemporalHead(128, num_layers=1, num_experts=2, num_heads=2, max_frames=6)
    pixels = {"mean": (0.5, 0.25, 0.5), "std": (0.25,) * 3, "preprocessing": PIXELS}
    model = VideoCLIP(plain.model.visual, plain.model.logit_scale, head, embed_dim=128, **pixels)
    for parameter in head.parameters():
        parameter.data.mul_(3)
    meta = {"backbone": "tiny", "pretrained": None, "classes": TUNED, "templates": plain.templates, "seed": 0}
    save_model(place, model, {**meta, **OWN, **GATED}, {"tuned_text": plain.text_features(TUNED)})
    return place


def own_way(model) -> dict:
    return {name: getattr(model, name) for name in OWN} | {
        "gate": model.modulation_gate,
        "modulation": model.modulation,
        "preprocessing": model.model.preprocessing,
    }


def test_a_folder_and_its_export_say_the_same(folder, tmp_path):
    model = load_video(str(folder), device="cpu")
    assert own_way(model) == {**OWN, "gate": Gate(2, 0.25), "modulation": None, "preprocessing": PIXELS}
    export(model, tmp_path / "m.safetensors", class_names=["red star", "green ring"])
    again = load_video(str(tmp_path / "m.safetensors"), device="cpu")
    assert own_way(again) == own_way(model) and again.recipe == model.recipe
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        note = json.loads(file.metadata()["mote"])
    assert note["modulation"] == {"k": 2, "gamma": 0.25} and note["decoder"] == "decord"
    assert (note["resize"]["mode"], note["resize"]["interpolation"]) == ("squash", "bilinear")
    assert note["resize"]["fill"] == [1, 2, 3] and note["sampling"]["stride"] == 2


@pytest.mark.slow
def test_the_gate_of_the_model_is_part_of_prediction_and_of_a_graph(folder, tmp_path):
    model, names = load_video(str(folder), device="cpu"), ["red star", "green ring", "pink heart"]
    frames = torch.from_numpy(np.random.default_rng(5).integers(0, 256, (2, 1, 4, 3, 64, 64), dtype=np.uint8))
    own = model.scorer(names)({"frames": frames})
    assert (own - model.scorer(names, gate=GATE)({"frames": frames})).abs().max() > 1e-2
    export(model, tmp_path / "m.pt2", class_names=names)
    found = torch.export.load(tmp_path / "m.pt2").module()(frames[:, 0])
    torch.testing.assert_close(found, own[:, 0], atol=1e-4, rtol=0)
    assert contract(model, names, model.text_features(names), modulation=True)["modulation"]["k"] == 2


def test_eval_makes_clips_in_the_models_own_way_and_says_so(folder, clips, tmp_path):
    assert mote("eval", folder, *settings(clips), "data.decoder=pyav", "--out", tmp_path, "--no-page") == 0
    result = json.loads((tmp_path / "eval.json").read_text())
    used = result["provenance"]["config"]
    assert {key: used["data"][key] for key in OWN} == {**OWN, "decoder": "pyav"}
    assert (used["data"]["interpolation"], used["data"]["resize"]) == ("bilinear", "squash")
    assert used["data"]["mean"] == [0.5, 0.25, 0.5] and used["evaluation"]["modulation_k"] == 2
    model = load_video(str(folder), device="cpu")
    model.decoder = "pyav"
    rows = (tmp_path / "eval.csv").read_text().splitlines()
    where = rows[0].split(",").index("probability")
    for row, clip in zip(rows[1:], sorted(clips.glob("clip*.mp4")), strict=True):
        best = next(iter(model.classify_video(clip).values()))
        assert float(row.split(",")[where]) == pytest.approx(best, abs=1e-5)


def test_what_is_asked_for_is_done_and_written_down(folder, clips, tmp_path, monkeypatch):
    made, init = [], video.VideoDataset.__init__

    def noting(self, *args, **options):
        init(self, *args, **options)
        made.append(self)

    monkeypatch.setattr(video.VideoDataset, "__init__", noting)
    ways = ["data.frames=2", "data.sampling=segment", "data.difference=0", "data.decoder=pyav", "data.resize=crop"]
    ways += ["data.interpolation=bicubic", "evaluation.modulation_k=1", "data.mean=[0.5,0.5,0.5]"]
    assert mote("eval", folder, *settings(clips, *ways), "--out", tmp_path, "--no-page") == 0
    used = json.loads((tmp_path / "eval.json").read_text())["provenance"]["config"]
    (one,) = made
    assert (one.num_frames, one.sampling, one.difference, one.decoder, one.stride) == (2, "segment", 0, "pyav", 2)
    assert one.preprocessing == Preprocessing("bicubic", "crop", (1, 2, 3))
    assert (used["data"]["frames"], used["data"]["sampling"], used["data"]["stride"]) == (2, "segment", 2)
    assert used["data"]["mean"] == [0.5] * 3 and used["evaluation"]["modulation_k"] == 1
    assert used["evaluation"]["modulation_gamma"] == 0.25 and used["data"]["resize"] == "crop"


@pytest.mark.parametrize(
    ("way", "problem"),
    [
        ("data.frames=7", "data.frames=7: the temporal head of this model has positions for 6 frames"),
        ("data.size=96", "data.size=96: this network cannot take images of 96 x 96 pixels"),
        ("data.size=70", "data.size=70: this network cannot take images of 70 x 70 pixels: it is no multiple of 16"),
    ],
)
def test_what_the_model_cannot_follow_is_refused_before_anything_is_decoded(
    folder, clips, tmp_path, capsys, monkeypatch, way, problem
):
    def decode(*_arguments, **_options):
        raise AssertionError("decoded")

    monkeypatch.setattr(video, "read_frames", decode)
    assert mote("eval", folder, *settings(clips, way), "--out", tmp_path) == 2
    assert problem in capsys.readouterr().err and not any(tmp_path.iterdir())


def test_defaults_ask_for_nothing(folder):
    model, config = load_video(str(folder), device="cpu"), load_config([], ["data.frames=2"])
    assert as_asked(model, config) is model
    assert as_asked(model, config, {"data.frames"}).frames == 2 and model.frames == 4
    assert settled(config, model).data.frames == 4 and settled(config, model).data.resize == "squash"
    other = as_asked(model, load_config([], ["data.resize=shortest"]))
    assert other.model.preprocessing.resize == "shortest" and model.model.preprocessing == PIXELS
    assert other.model.visual.state_dict().keys() == model.model.visual.state_dict().keys()


def test_features_prepared_in_another_way_are_other_entries():
    tiny = load_video("tiny", device="cpu")
    tiny.model.set_pixels(mean=(0.0,) * 3, std=(1.0,) * 3)
    ways = [CUT_FIRST, *(CUT_FIRST.changed(**way) for way in ({"interpolation": "bicubic"}, {"resize": "squash"}))]
    keys = []
    for way in [*ways, CUT_FIRST.changed(fill=(0, 0, 1))]:
        keys.append(_pixels(tiny.model, way))
    tiny.model.set_pixels(std=(0.5,) * 3)
    assert len({*keys, _pixels(tiny.model, CUT_FIRST)}) == 5
    assert keys[0] == str([tiny.model.mean.tolist(), torch.ones(3, 1, 1).tolist()])  # as it was before


def test_an_older_folder_keeps_what_it_was_trained_with_and_says_so(folder, tmp_path):
    meta = json.loads((folder / "model.json").read_text())
    for key in ("preprocessing", "decoder", *GATED):
        del meta[key]
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "model.json").write_text(json.dumps(meta))
    (tmp_path / "best" / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    (tmp_path / "config.yaml").write_text("evaluation: {modulation_k: 3, modulation_gamma: 0.5}\n")
    for place in (tmp_path, tmp_path / "best"):
        with pytest.warns(UserWarning, match=r"model\.json: trained before models named their preprocessing"):
            model = load_video(str(place), device="cpu")
        assert model.model.preprocessing == CUT_FIRST and model.modulation_gate == Gate(3, 0.5)


def test_a_backbone_brings_its_own_preprocessing(tmp_path):
    name = small_clip("ViT-B-32", tmp_path)
    file = Path(name.removeprefix("local-dir:")) / "open_clip_config.json"
    own = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bilinear", "resize_mode": "longest"}
    file.write_text(json.dumps({**json.loads(file.read_text()), "preprocess_cfg": {**own, "fill_color": 9}}))
    towers = load_backbone(name, "random")
    assert towers.preprocessing == Preprocessing("bilinear", "longest", (9, 9, 9)) and towers.mean == (0.5, 0.5, 0.5)
    assert _preprocessing("a", {"interpolation": "random"}) == Preprocessing()
    with pytest.raises(ValueError, match="a: preprocessing: resize must be one of"):
        _preprocessing("a", {"resize_mode": "other"})


def image_net(classes: tuple[str, ...] = ("a", "b"), **meta) -> ImageClassifier:
    net = image_classifier("lenet", len(classes), mean=(0.25,), std=(0.5,), in_channels=1, size=28)
    return ImageClassifier(net.eval(), list(classes), {"size": 28, "channels": 1, **meta}, torch.device("cpu"))


def autoencoder() -> LatentModel:
    net = ImageAutoencoder(size=8, channels=1, latent=4, codes=4, width=4)
    return LatentModel(
        net, isotropic(axis_centres(2, 4, 6.0)), {"classes": ["a"], "method": "gm", "conditional": False}
    )


EVERYWHERE = {f"data.{key}" for key in ("train", "root", "split", "classes", "workers", "interpolation", "resize")}
EVERYWHERE |= {f"evaluation.{key}" for key in ("manifest", "root", "split", "batch_size", "page", "name", "classes")}
EVERYWHERE |= {"run.cpu"}
CLIP = {"data.mean", "data.std"}
POSTHOC = {"imbalance.posthoc", "imbalance.posthoc_tau"}
VIDEO = {f"data.{key}" for key in ("frames", "size", "sampling", "stride", "difference", "decoder", "decode_timeout")}
COUNTED = {key: f"evaluation.{key}" for key in EvaluationConfig.model_fields}


@pytest.mark.parametrize("kind", ["video", "image", "expression", "clip images", "autoencoder"])
def test_every_setting_that_changes_nothing_is_refused(folder, kind):
    """All leaves of the configuration, each alone: what is left is what the evaluation of this kind of model reads."""
    video = load_video(str(folder), device="cpu")
    model, read = {
        "video": lambda: (video, VIDEO | CLIP | POSTHOC | {*COUNTED.values()} - {COUNTED["every"], COUNTED["accept"]}),
        "image": lambda: (image_net(), {"data.size"}),
        "expression": lambda: (image_net(counts=[3, 1]), {"data.size"} | POSTHOC),
        "clip images": lambda: (
            replace(image_net(), net=CLIPImages(video.model, torch.eye(2, 128))),
            CLIP | {"data.size"},
        ),
        "autoencoder": lambda: (autoencoder(), {"autoencoder.judge", "optim.batch_size", "optim.accumulation"}),
    }[kind]()
    own, left = Config(), set()
    for section, part in own:
        for key in getattr(type(part), "model_fields", {}):
            changed = own.model_copy(update={section: part.model_copy(update={key: "another"})})
            name = f"{section}.{key}"
            try:
                check_named(model, changed, own, {name})
            except ValueError as error:
                assert str(error).startswith(f"{name}=another: nothing would change: ") and "\n" not in str(error)
            else:
                left.add(name)
            check_named(model, changed, changed, {name})  # what the run has already asks for nothing
    assert left == EVERYWHERE | read - {"imbalance.posthoc_tau", "evaluation.places"}  # need posthoc, several views


def test_what_another_setting_makes_idle_is_refused_and_the_reason_said(folder):
    video, own = load_video(str(folder), device="cpu"), Config()

    def said(*overrides: str, model=video) -> str:
        named = {override.partition("=")[0] for override in overrides}
        try:
            check_named(model, load_config([], overrides), own, named)
        except ValueError as error:
            return str(error)
        return ""

    assert "only data.resize=longest has bars to fill" in said("data.fill=[1,1,1]")
    assert said("data.fill=[1,1,1]", "data.resize=longest") == said("data.stride=3") == ""
    segments = replace(video, sampling="segment")
    assert "data.stride=3: nothing would change: clips of this model are sampled" in said(
        "data.stride=3", model=segments
    )
    assert "used with evaluation.unknown only" in said("evaluation.accept=0.5")
    assert said("evaluation.accept=0.5", "evaluation.unknown=x") == ""
    assert "imbalance.posthoc is none" in said("imbalance.posthoc_tau=0.5")
    text = said("model.layers=2", "optim.lr=1", "loss.anchor=paper", "data.flip=0", "data.grayscale=0.5", "run.keep=2")
    assert text.startswith("data.flip=0.0, data.grayscale=0.5, loss.anchor=paper, model.layers=2 and 2 more: nothing")
    assert "a result is written to --out" in said("run.out=x")
    with pytest.raises(ValueError, match="task=image: this model is of task=video; leave it out"):
        check_named(video, load_config([], ["task=image"]), own, ())
    check_named(image_net(), load_config([], ["task=expression"]), own, ())


def test_mean_and_std_of_an_image_network_are_refused_at_eval_and_nothing_is_written(tmp_path, capsys):
    model = image_net()
    save_net(tmp_path / "net", model.net, {"net": "lenet", "classes": ["a", "b"], **model.meta})
    for label in ("a", "b"):
        (tmp_path / "images" / label).mkdir(parents=True)
        Image.new("L", (28, 28), 40).save(tmp_path / "images" / label / "x.png")
    where = [f"evaluation.manifest={tmp_path / 'images'}", "data.workers=0", "run.cpu=true", "--out", tmp_path / "out"]
    assert mote("eval", tmp_path / "net", "image.mean=[0.9]", "image.std=[0.9]", *where) == 2
    error = capsys.readouterr().err
    assert (
        "mote: error: image.mean=(0.9,), image.std=(0.9,): nothing would change: mean and standard deviation" in error
    )
    assert error.count("\n") == 1 and not (tmp_path / "out").exists()
    assert mote("eval", tmp_path / "net", "data.resize=squash", "--no-page", *where) == 0
    assert capsys.readouterr().err == ""
    used = json.loads((tmp_path / "out" / "eval.json").read_text())["provenance"]["config"]
    assert (used["image"]["mean"], used["image"]["std"], used["image"]["channels"]) == ([0.25], [0.5], 1)
    assert (used["data"]["size"], used["data"]["interpolation"], used["data"]["resize"]) == (28, "bilinear", "squash")


def test_the_size_and_pixels_of_an_autoencoder_are_recorded():
    model = autoencoder()
    used = settled(Config(), replace(model, meta={**model.meta, "preprocessing": PIXELS._asdict()}))
    assert (used.data.resize, used.data.interpolation, used.data.fill) == ("squash", "bilinear", (1, 2, 3))
    used = settled(load_config([], ["data.interpolation=bicubic"]), model)
    assert (used.data.size, used.data.interpolation, used.data.resize, used.image.channels) == (8, "bicubic", "crop", 1)


def test_what_kind_of_model_it_is_is_recorded_also_where_its_run_is_not_there():
    found = [settled(Config(), model).task for model in (image_net(), image_net(counts=[3, 2]), autoencoder())]
    assert found == ["image", "expression", "autoencoder"]


def test_nothing_is_said_of_a_stride_that_a_dense_export_follows(folder, clips, tmp_path, capsys):
    export(load_video(str(folder), device="cpu"), tmp_path / "m.safetensors", class_names=TUNED)
    ways = ["data.stride=1", "data.decoder=pyav", "data.difference=0"]
    capsys.readouterr()
    assert mote("eval", tmp_path / "m.safetensors", *settings(clips, *ways), "--out", tmp_path, "--no-page") == 0
    assert "stride" not in capsys.readouterr().err
    used = json.loads((tmp_path / "eval.json").read_text())["provenance"]["config"]["data"]
    assert (used["sampling"], used["stride"]) == ("dense", 1)


def test_what_differs_from_the_models_own_clips_is_named():
    own = {"frames": 8, "size": 64, "sampling": "segment", "stride": 4, "resize": "crop", "fill": (0, 0, 0)}
    assert other_clips({**own, "stride": 2, "fill": (1, 0, 0)}, own) == []  # of what these clips do not have
    found = other_clips({**own, "frames": 4, "size": 96, "sampling": "dense", "stride": 2}, own, {"data.frames"})
    assert found == [
        "data.size=96, the model's own is 64",
        "data.sampling=dense, the model's own is segment",
        "data.stride=2, the model's own is 4",
    ]
    bars = other_clips({**own, "resize": "longest", "fill": (1, 0, 0)}, own)
    assert bars[1] == "data.fill=[1, 0, 0], the model's own is [0, 0, 0]"
