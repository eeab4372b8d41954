"""Every setting of the configuration arrives where it acts: given as a user gives it, looked for at the far end.

RUNS are small trainings (`mote train`) and evaluations (`mote eval`). ARRIVES says for every setting in which of them
it is looked for, and how: a function of the finished run gives the value that arrived, read from the objects that were
built, from what was called, or from the files of the run. `effect` stands where only a consequence shows.

A new setting needs two things: in one of the RUNS, where it has an effect, a value that is not its default; and a line
in ARRIVES. What kinds of task pass on by themselves is looked for in a run of each, `"video faces"` means both. Places
in the code are named in `watched_runs.PLACES` alone.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from looks import (
    AS_SET,
    Look,
    adapted,
    adapters,
    agreed,
    augmentation,
    batch_of_evaluation,
    batches,
    correction,
    datasets,
    dropout,
    effect,
    every,
    gate,
    given,
    kind_of_task,
    learns,
    lines,
    made,
    meta,
    method,
    network,
    of_dataset,
    of_variation,
    on_list,
    option,
    patience,
    penalised_layers,
    plain,
    prepared,
    prompts,
    rate,
    same_weights,
    samples_of_update,
    seeds,
    selected,
    size_of_codes,
    statistics_of,
    steps,
    vectors_do_not_decay,
    warm_up,
    weight,
)
from pydantic import BaseModel
from watched_runs import Workshop

from mote.config.sections import DataConfig, EvaluationConfig
from mote.config.tree import Config
from mote.evaluation.views import evaluation_dataset
from mote.files.preprocessing import Preprocessing

BASE = """
seed: 3
model: {layers: 1, experts: 2}
data: {workers: 0, decode_timeout: null}
optim: {epochs: 1, warmup_epochs: 0, batch_size: 4}
evaluation: {page: false}
run: {cpu: true}
"""
LIST = "data: {train: HERE/clips.csv, root: HERE/videos, split: train, classes: HERE/classes.txt, frames: 2}"
CLIPS = (BASE, LIST, "data: {templates: HERE/templates.txt}")
TESTED = "evaluation: {manifest: HERE/tests.csv, root: HERE/videos, split: test}"
PICTURES = (
    BASE,
    """
task: image
data: {train: HERE/digits.npz, size: 16, split: train}
image: {channels: 1}
evaluation: {manifest: HERE/digits.npz, split: test, batch_size: 5}
""",
)
FACES = (
    *PICTURES,
    """
task: expression
data: {train: HERE/faces.csv, root: HERE/faces, split: train, classes: HERE/feelings.txt}
image: {net: resnet8}
evaluation: {manifest: HERE/faces.csv, root: HERE/faces, split: test}
""",
)
MIXING = "mixing: {methods: [mixup, hmix], alpha: 0.5, ratio: 0.25, probability: 0.75, per_sample: false}"
R_DROP = "r_drop: {weight: 0.5, temperature: 4}"
OPTIM = "optim: {lr: 1e-3, betas: [0.5, 0.75], weight_decay: 0.5, no_decay_norm_bias: true, clip_norm: 2.5}"
LOOP = """
optim: {epochs: 3, warmup_epochs: 1, accumulation: 2}
evaluation: {every: 2, name: mine}
run: {keep: 4, save_every: 1}
"""
SPARSITY = "sparsity: {strength: 0.0625, start: 0.125, ramp: 0.25, stop: 0.5}"

RUNS = {  # name: YAML texts, of which later ones win; "eval NAME" first: that run is evaluated; HERE: see `Workshop`
    "video": (
        *(*CLIPS, TESTED, MIXING, R_DROP, OPTIM, LOOP, SPARSITY),
        """
data: {sampling: dense, stride: 2, difference: 1, crop_scale: [0.5, 0.75], flip: 0.25, grayscale: 0.125, workers: 1,
  decode_timeout: 30, interpolation: bilinear, resize: longest, fill: [1, 2, 3], mean: [0.25, 0.5, 0.75],
  std: [0.5, 0.25, 0.125]}
model: {layers: 2, experts: 3, heads: 4, drop_path: 0.25, same_init: true, expert_part: separate,
  gradient_checkpointing: true}
loss: {anchor: paper, anchor_weight: 0.25, merged: kl, merged_weight: 0.75, route_temperature: 2,
  merge_temperatures: [-2, 2]}
mixing: {extent: spacetime}
optim: {backbone_lr_scale: 0.25, precision: bf16, sync_routing: true}
evaluation: {clips: 2, crops: 3, places: released, batch_size: 3, fusion: reference, precision: bf16, alpha: 0.5,
  modulation: true, modulation_k: 3, modulation_gamma: 0.25, cache: HERE/unused cache}
run: {select: top5, trackers: [tensorboard]}
sparsity: {groups: [heads, units], layers: {"temporal.*": 2}}
""",
    ),
    "zero_shot": (
        "eval video",
        """
evaluation: {classes: HERE/new classes.txt, templates: HERE/other templates.txt, split: new, name: zero, batch_size: 2,
  unknown: HERE/other, accept: 0.75, cache: HERE/other cache, fusion: mean_logits, clips: 3, alpha: 0.75,
  places: released, modulation_k: 2, modulation_gamma: 0.5}
data: {decoder: decord}
""",
    ),
    "adapters": (
        *CLIPS,
        """
data: {near_keyframes: true}
loss: {routing: all}
model: {gradient_checkpointing: true}
tuning: {vision: lora, text: lora, adapt: mlp, rank: 2, alpha: 3, lr_scale: 2, text_prompts: 2,
  freeze: [model.temporal.position]}
""",
    ),
    "frozen": (
        *(*CLIPS, TESTED),
        """
data: {cache_features: true, sampling: dense, stride: 2, difference: 1}
tuning: {vision: frozen}
imbalance: {method: focal, gamma: 3}
evaluation: {cache: HERE/cache, clips: 2}
""",
    ),
    "shards": (
        BASE,
        """
data: {train: HERE/shards/list.csv, classes: HERE/classes.txt, frames: 2, shuffle_shards: 2, max_bad_fraction: 0.5}
model: {init: HERE/runs/video/best, layers: 2, experts: 3, expert_part: separate}
optim: {lr: 1e-12}
imbalance: {method: ldam_drw, beta: 0.5, margin: 0.25, defer: 0.25}
evaluation: {manifest: HERE/shards/list.csv, bad_videos: count_wrong}
""",
    ),
    "shards_posthoc": ("eval shards", "imbalance: {posthoc: logit_adjustment, posthoc_tau: 0.5}"),
    "other_clip": (
        *(*CLIPS, TESTED),
        """
data: {size: 48, decoder: decord}
imbalance: {method: sampler}
model: {backbone: "local-dir:HERE/convnext_base", pretrained: random}
tuning: {text: full}
""",
    ),
    "digits": (
        *(*PICTURES, MIXING, R_DROP, OPTIM, LOOP, SPARSITY),
        """
data: {workers: 1, interpolation: bicubic, resize: squash, fill: [4, 5, 6]}
image: {net: lenet, dropout: 0.25, pad: 2, mean: [0.25], std: [0.75], augment: rand-m3-n1, erase: 0.5,
  erase_area: [0.125, 0.25]}
optim: {precision: bf16}
run: {select: top5}
sparsity: {groups: [filters], layers: {"conv*": 2}}
""",
    ),
    "digits_again": ("eval digits", "evaluation: {batch_size: 7, name: again}"),
    "timm": (
        *PICTURES,
        """
data: {size: 32, crop_scale: [0.5, 0.75], flip: 0.25, grayscale: 0.125}
image: {net: "timm:test_resnet", pretrained: true, channels: 3}
""",
    ),
    "clip_pictures": (
        *PICTURES,
        """
data: {size: 64, classes: HERE/classes.txt, templates: HERE/templates.txt, interpolation: bilinear, resize: squash,
  mean: [0.25, 0.5, 0.75], std: [0.5, 0.25, 0.125]}
image: {net: backbone, channels: 3}
model: {pretrained: random}
optim: {backbone_lr_scale: 0.25}
""",
    ),
    "faces": (
        *(*FACES, OPTIM, R_DROP),
        """
image: {dropout: 0.25}
imbalance: {method: mek, strength: 0.5, epsilon: 0.25}
""",
    ),
    "crt": (
        *FACES,
        "image: {init: HERE/runs/faces/best, dropout: 0.5}\nimbalance: {method: crt}",
        "optim: {method: adam, weight_decay: 0.125, schedule: exponential, lr_decay: 0.75}",
    ),
    "ldam": (
        *FACES,
        "imbalance: {method: ldam_drw, beta: 0.5, margin: 0.25, defer: 0.25, scale: 20}",
        "optim: {method: sgd, momentum: 0.5, weight_decay: 0.125, schedule: step, milestones: [0.5], lr_decay: 0.25}",
    ),
    "adjusted": (*FACES, "imbalance: {method: logit_adjustment, tau: 2}", "optim: {min_lr_ratio: 0.25}"),
    "adjusted_posthoc": ("eval adjusted", "imbalance: {posthoc: logit_adjustment, posthoc_tau: 0.5}"),
    "codes": (
        *(*PICTURES, OPTIM, LOOP),
        """
task: autoencoder
autoencoder: {conditional: true, modes: 3, latent: 3, width: 4, separation: 5, judge: HERE/runs/digits/best,
  reconstruction_weight: 7, cdf_weight: 2, covariance_weight: 3, mean_weight: 5}
optim: {batch_size: 16}
""",
    ),
    "codes_again": ("eval codes", "evaluation: {batch_size: 7, name: again}\noptim: {accumulation: 4}"),
    "fitted_codes": (
        *PICTURES,
        "task: autoencoder\nautoencoder: {method: ae, modes: 2, latent: 4, width: 4, kl_weight: 4, mmd_weight: 6}",
    ),
}

PICTURED = "digits faces timm clip_pictures codes"
TESTED_RUNS = "video zero_shot digits digits_again faces codes codes_again"
TRAINS_ON_LIST, EVALUATES_LIST = on_list("train", "data", True), on_list("manifest", "evaluation", False)
LOOPS, UPDATES = "video digits codes", "video digits faces codes"
ARRIVES: dict[str, dict[str, Look]] = {  # setting -> names of runs -> how the value that arrived is seen there
    "seed": {
        "video": every(
            of_dataset("seed", True), made("EpochSampler", "seed"), given("Schedule", "seed"), seeds, meta("seed")
        ),
        "other_clip": every(made("ClassBalancedSampler", "seed"), seeds, meta("seed")),
        "digits": every(of_dataset("seed", True), made("EpochSampler", "seed"), given("Schedule", "seed"), seeds),
        "faces clip_pictures codes": every(of_dataset("seed", True), made("EpochSampler", "seed"), seeds, meta("seed")),
        "crt": made("ClassBalancedSampler", "seed"),
        "fitted_codes": given("GaussianMixture", "random_state"),
    },
    "task": {"digits faces codes": kind_of_task},
    "model.backbone": {"other_clip": every(made("Towers", "name"), meta("backbone"))},
    "model.pretrained": {"other_clip clip_pictures": every(made("Towers", "pretrained"), meta("pretrained"))},
    "model.layers": {"video": lambda run: len(run.task.model.temporal.blocks)},
    "model.experts": {"video": made("TemporalHead", "num_experts")},
    "model.heads": {"video": made("TemporalHead", "num_heads")},
    "model.drop_path": {"video": lambda run: run.task.drop_path},
    "model.same_init": {"video": given("ExpertFFN", "same_init")},
    "model.expert_part": {"video": given("ExpertFFN", "part")},
    "model.init": {"shards": same_weights("model", "*_weight")},
    "model.gradient_checkpointing": {
        "video": lambda run: run.task.model.temporal.gradient_checkpointing,
        "adapters": lambda run: any(
            getattr(part, "grad_checkpointing", 0) for part in run.task.class_features.modules()
        ),
    },
    "data.train": {f"{UPDATES} shards": TRAINS_ON_LIST},
    "data.root": {"video faces": TRAINS_ON_LIST},
    "data.split": {"video faces": TRAINS_ON_LIST},
    "data.classes": {
        "frozen clip_pictures": prompts("data"),
        "video frozen clip_pictures faces": effect(lambda run: run.meta["classes"] == lines(run, "data.classes")),
    },
    "data.templates": {
        "frozen clip_pictures": prompts("data"),
        "video clip_pictures": effect(lambda run: run.meta["templates"] == lines(run, "data.templates")),
    },
    "data.frames": {"video": every(of_dataset("num_frames", True, False), meta("frames"))},
    "data.size": {
        "other_clip": every(of_dataset("size", True), meta("size")),
        PICTURED: of_dataset("size", True, False),
    },
    "data.interpolation": {"video zero_shot digits digits_again clip_pictures": prepared("interpolation")},
    "data.resize": {"video zero_shot digits digits_again clip_pictures": prepared("resize")},
    "data.fill": {"video zero_shot digits digits_again": prepared("fill")},
    "data.mean": {"video": statistics_of("model"), "clip_pictures": statistics_of("backbone")},
    "data.std": {"video": statistics_of("model", "std"), "clip_pictures": statistics_of("backbone", "std")},
    "data.decoder": {
        "other_clip": every(of_dataset("decoder", True, False), meta("decoder")),
        "zero_shot": every(of_dataset("decoder", False), lambda run: run.result["provenance"]["decoder"]),
    },
    "data.sampling": {"video frozen": every(of_dataset("sampling", True, False), meta("sampling"))},
    "data.stride": {"video frozen": every(of_dataset("stride", True, False), meta("stride"))},
    "data.difference": {
        "video frozen": every(of_dataset("difference", True, False), meta("difference")),
        "zero_shot": of_dataset("difference", False),
    },
    "data.shuffle_shards": {"shards": lambda run: run.all("EpochSampler")[-1].window},
    "data.near_keyframes": {"adapters": of_dataset("near_keyframes", True)},
    "data.crop_scale": {"video": augmentation("scale"), "timm": of_dataset("scale", True)},
    "data.flip": {"video": augmentation("flip"), "timm": of_dataset("flip", True)},
    "data.grayscale": {"video": augmentation("grayscale"), "timm": of_dataset("grayscale", True)},
    "data.workers": {"video zero_shot digits digits_again": given("DataLoader", "num_workers")},
    "data.cache_features": {"frozen": effect(lambda run: run.all("FeatureDataset"))},
    "data.max_bad_fraction": {"shards": effect(lambda run: any("skipped" in record for record in run.updates))},
    "data.decode_timeout": {"video": every(given("Bounded", "timeout"), patience)},
    "image.net": {"digits timm clip_pictures": network},
    "image.pretrained": {"timm": given("create_model", "pretrained")},
    "image.init": {"crt": same_weights("image", "*conv?.weight")},
    "image.channels": {"digits faces codes": of_dataset("channels", True, False)},
    "image.dropout": {"digits faces crt": dropout},
    "image.pad": {"digits": of_dataset("pad", True)},
    "image.augment": {"digits": of_variation("augment")},
    "image.erase": {"digits": of_variation("erase")},
    "image.erase_area": {"digits": of_variation("area")},
    "image.mean": {"digits": lambda run: run.task.model.mean.flatten().tolist()},
    "image.std": {"digits": lambda run: run.task.model.std.flatten().tolist()},
    "imbalance.method": {"frozen shards other_clip faces crt ldam adjusted": every(method, meta("method"))},
    "imbalance.strength": {"faces": made("LongTailLoss", "strength")},
    "imbalance.epsilon": {"faces": made("LongTailLoss", "epsilon")},
    "imbalance.tau": {"adjusted": option("tau")},
    "imbalance.gamma": {"frozen": option("gamma")},
    "imbalance.beta": {"shards ldam": option("beta")},
    "imbalance.margin": {"shards ldam": option("max_margin")},
    "imbalance.scale": {"ldam": made("CosineHead", "scale")},
    "imbalance.defer": {"shards ldam": made("Deferral", "start")},
    "imbalance.posthoc": {"shards_posthoc adjusted_posthoc": effect(correction)},
    "imbalance.posthoc_tau": {"shards_posthoc adjusted_posthoc": correction},
    "tuning.vision": {"adapters frozen": learns("model.visual.")},
    "tuning.text": {"adapters other_clip": learns("class_features.")},
    "tuning.adapt": {"adapters": adapted},
    "tuning.rank": {"adapters": adapters("r")},
    "tuning.alpha": {"adapters": adapters("lora_alpha")},
    "tuning.lr_scale": {"adapters": rate("*.lora_?.*")},
    "tuning.text_prompts": {"adapters": lambda run: len(run.task.class_features.tokens) // len(run.meta["classes"])},
    "tuning.freeze": {"adapters": lambda run: [name for name in run.setting("tuning.freeze") if name not in run.rates]},
    "loss.merged_weight": {"video": made("VideoTask", "merged_weight")},
    "loss.anchor_weight": {"video": made("VideoTask", "anchor_weight")},
    "loss.anchor": {"video": made("VideoTask", "anchor")},
    "loss.routing": {"adapters": made("VideoTask", "routing")},
    "loss.merged": {"video": made("VideoTask", "merged")},
    "loss.route_temperature": {"video": made("VideoTask", "route_temperature")},
    "loss.merge_temperatures": {"video": made("VideoTask", "merge_temperatures")},
    "sparsity.strength": {"video digits": made("GroupLasso", "strength")},
    "sparsity.groups": {"video digits": lambda run: sorted({group.kind for group in run.all("GroupLasso")[0].groups})},
    "sparsity.layers": {"video digits": penalised_layers},
    "sparsity.start": {"video digits": made("GroupLasso", "start")},
    "sparsity.ramp": {"video digits": made("GroupLasso", "ramp")},
    "sparsity.stop": {"video digits": made("GroupLasso", "stop")},
    "autoencoder.method": {"fitted_codes": made("AutoencoderTask", "method")},
    "autoencoder.latent": {"codes fitted_codes": size_of_codes("latent")},
    "autoencoder.width": {"codes fitted_codes": size_of_codes("width")},
    "autoencoder.modes": {"codes codes_again fitted_codes": lambda run: run.result["modes"]},
    "autoencoder.separation": {
        "codes": lambda run: round(float((run.task.centres[0] - run.task.centres[1]).norm()), 4)
    },
    "autoencoder.conditional": {"codes": made("AutoencoderTask", "conditional")},
    "autoencoder.reconstruction_weight": {"codes": weight("reconstruction")},
    "autoencoder.cdf_weight": {"codes": weight("cdf")},
    "autoencoder.covariance_weight": {"codes": weight("covariance")},
    "autoencoder.mean_weight": {"codes": weight("mean")},
    "autoencoder.kl_weight": {"fitted_codes": weight("kl")},
    "autoencoder.mmd_weight": {"fitted_codes": weight("mmd")},
    "autoencoder.judge": {"codes codes_again": given("Judge", "folder")},
    "mixing.methods": {"video digits": made("Mixer", "methods")},
    "mixing.alpha": {"video digits": made("Mixer", "alpha")},
    "mixing.ratio": {"video digits": made("Mixer", "ratio")},
    "mixing.extent": {"video": made("Mixer", "extent")},
    "mixing.probability": {"video digits": made("Mixer", "probability")},
    "mixing.per_sample": {"video digits": made("Mixer", "per_sample")},
    "r_drop.weight": {"video digits faces": lambda run: run.task.r_drop_weight},
    "r_drop.temperature": {"video digits faces": lambda run: run.task.r_drop_temperature},
    "optim.method": {"ldam crt": every(given("Schedule", "method"), lambda run: run.optimizer.lower())},
    "optim.momentum": {"ldam": lambda run: agreed([group["momentum"] for group in run.groups])},
    "optim.schedule": {"ldam crt": given("Schedule", "schedule")},
    "optim.min_lr_ratio": {"adjusted": given("Schedule", "min_lr_ratio")},
    "optim.lr_decay": {"ldam crt": given("Schedule", "lr_decay")},
    "optim.milestones": {"ldam": given("Schedule", "milestones")},
    "optim.lr": {UPDATES: lambda run: max(record["lr"] for record in run.updates)},
    "optim.backbone_lr_scale": {"video": rate("model.visual.*"), "clip_pictures": rate("*")},
    "optim.weight_decay": {UPDATES: lambda run: max(group["weight_decay"] for group in run.groups)},
    "optim.betas": {UPDATES: lambda run: agreed([group["betas"] for group in run.groups])},
    "optim.no_decay_norm_bias": {UPDATES: vectors_do_not_decay},
    "optim.epochs": {LOOPS: lambda run: run.updates[-1]["epoch"] + 1},
    "optim.warmup_epochs": {LOOPS: warm_up},
    "optim.batch_size": {UPDATES: samples_of_update},
    "optim.accumulation": {
        LOOPS: lambda run: len(batches(run)) / len(run.updates),
        "codes codes_again": lambda run: run.setting("optim.batch_size") / run.result["latent"]["batch"],
    },
    "optim.clip_norm": {UPDATES: given("Accelerator.clip_grad_norm_", "max_norm")},
    "optim.precision": {"video digits": given("Accelerator", "mixed_precision")},
    "optim.sync_routing": {"video": given("Schedule", "sync_routing")},
    "evaluation.manifest": {"video zero_shot shards digits faces codes": EVALUATES_LIST},
    "evaluation.root": {"video zero_shot faces": EVALUATES_LIST},
    "evaluation.split": {"video zero_shot digits digits_again faces codes": EVALUATES_LIST},
    "evaluation.classes": {"zero_shot": prompts("evaluation")},
    "evaluation.templates": {"zero_shot": prompts("evaluation")},
    "evaluation.clips": {"video zero_shot": of_dataset("num_clips", False)},
    "evaluation.crops": {"video zero_shot": of_dataset("num_crops", False)},
    "evaluation.places": {"video zero_shot": of_dataset("places", False)},
    "evaluation.fusion": {"video zero_shot": given("fuse_views", "form")},
    "evaluation.modulation": {"video": effect(lambda run: run.calls("modulation_gate") and run.meta["modulation"])},
    "evaluation.modulation_k": {"video": every(gate("k"), meta("modulation_k")), "zero_shot": gate("k")},
    "evaluation.modulation_gamma": {
        "video": every(gate("gamma"), meta("modulation_gamma")),
        "zero_shot": gate("gamma"),
    },
    "evaluation.alpha": {"video zero_shot": given("VideoClassifier.interpolated", "alpha")},
    "evaluation.bad_videos": {"shards": effect(lambda run: run.result["undecodable"])},
    "evaluation.batch_size": {TESTED_RUNS: batch_of_evaluation},
    "evaluation.precision": {"video zero_shot": given("autocast", "precision")},
    "evaluation.cache": {
        "frozen zero_shot": lambda run: agreed([str(call["folder"]) for call in run.calls("FeatureCache")])
    },
    "evaluation.every": {LOOPS: lambda run: run.evaluations[0]["epoch"] + 1},
    "evaluation.unknown": {"zero_shot": effect(lambda run: run.result["open_set"]["listed"] == 1)},
    "evaluation.accept": {"zero_shot": lambda run: run.result["open_set"]["accept"]},
    "evaluation.page": {
        "video zero_shot digits faces adjusted_posthoc": lambda run: any(run.results.glob("*/index.html"))
    },
    "evaluation.name": {
        LOOPS + " zero_shot digits_again codes_again": lambda run: next(run.results.glob("*.json")).stem
    },
    "run.out": {UPDATES: effect(lambda run: (run.folder / "config.yaml").is_file())},
    "run.save_every": {LOOPS: lambda run: steps(run)[-1] - steps(run)[-2]},
    "run.keep": {LOOPS: lambda run: len(steps(run))},
    "run.select": {"video digits": selected},
    "run.trackers": {"video": effect(lambda run: any((run.folder / "trackers").rglob("events*")))},
    "run.cpu": {TESTED_RUNS: given("Accelerator", "cpu")},
}


def leaves(section: type[BaseModel] = Config, before: str = "") -> Iterator[tuple[str, Any]]:
    """Full name and default of every setting."""
    for name, field in section.model_fields.items():
        if inspect.isclass(field.annotation) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, f"{before}{name}.")
        else:
            yield before + name, field.default


LOOKS = [
    pytest.param(key, name, look, id=f"{key} in {name}")
    for key, looks in ARRIVES.items()
    for names, look in looks.items()
    for name in names.split()
]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Iterator[Workshop]:
    with Workshop(tmp_path_factory.mktemp("settings"), RUNS).watching() as workshop:
        yield workshop


def test_every_setting_is_looked_for():
    assert set(ARRIVES) == {name for name, _ in leaves()}


@pytest.mark.filterwarnings("ignore:optim.precision=bf16", "ignore::DeprecationWarning:tensorboard")
@pytest.mark.parametrize(("key", "name", "look"), LOOKS)
def test_it_arrives(workshop, key, name, look):
    run = workshop.run(name)
    value = run.setting(key)
    assert value != dict(leaves())[key], f"run {name!r} leaves {key} at its default, so nothing can be seen"
    arrived = look(run)
    assert arrived is AS_SET or plain(arrived) == plain(value)


def test_what_training_alone_decides_comes_with_the_settings(workshop):
    """What no setting says by itself: whose features are kept, what single views are, what the model says of itself."""
    video, frozen = workshop.run("video"), workshop.run("frozen")
    assert not list(Path(video.setting("evaluation.cache")).rglob("*"))  # of a tower that learns: of use to nobody
    assert list(Path(frozen.setting("evaluation.cache")).rglob("*"))
    sets = datasets(frozen, train=False)
    assert (sets[0].num_clips, sets[-1].num_clips) == (1, 2)  # features of training clips are of one view
    assert video.meta["counts"] == [4, 2, 2] and workshop.run("faces").meta["counts"] == [5, 2, 1]
    assert workshop.run("clip_pictures").meta["backbone"] == "tiny"


def test_clips_whose_features_are_kept_are_made_as_asked():
    data = DataConfig(sampling="dense", stride=3, decoder="decord", decode_timeout=9)
    pixels = Preprocessing("bilinear", "squash", (1, 2, 3))
    views = EvaluationConfig(clips=2, crops=3)
    made = evaluation_dataset([], views, data, frames=5, size=48, difference=1, preprocessing=pixels)
    assert (made.num_frames, made.size, made.difference, made.preprocessing) == (5, 48, 1, pixels)
    assert (made.sampling, made.stride, made.decoder, made.on_error) == ("dense", 3, "decord", "mark")
    assert (made.num_clips, made.num_crops, made.train) == (2, 3, False)
    assert made._bounded is not None and made._bounded.timeout == 9
