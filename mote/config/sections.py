"""Every setting of the configuration, by section: its default, its range, and a comment on its meaning and unit.

Ranges are those of the types (`kinds.py`), checked when a configuration is read. Imports no torch.
"""

import math
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from mote.config.kinds import (
    AboveZero,
    Count,
    Different,
    Exponent,
    Few,
    FileName,
    Filled,
    Level,
    Many,
    Moderate,
    Natural,
    NonNegative,
    Pixels,
    Place,
    Positive,
    Section,
    Share,
    ShareAboveZero,
    ShareBelowOne,
    Size,
    Text,
)


class ModelConfig(Section):
    """The network of task=video: the towers of a CLIP model, its backbone, and the temporal head on top of them."""

    backbone: Text = "tiny"  # the CLIP model: `tiny` (built in), or the name of an open_clip architecture
    pretrained: Text | None = None  # its weights: open_clip tag, checkpoint file, or `random`; null for tiny
    layers: Few = 4  # temporal transformer layers; 0 = no temporal head, frame features are averaged
    experts: Count = 4  # feed-forward experts of each temporal layer; 1 = a plain temporal transformer
    heads: Count | None = None  # attention heads of each temporal layer; null = width of the text tower // 64
    # In training, probability that a layer's attention or feed-forward part is left out of a step (stochastic depth).
    drop_path: ShareBelowOne = 0.0
    same_init: bool = False  # all experts start from the same weights (an ablation of the paper)
    # What an expert is: the feed-forward network as a whole (ffn), its first or its second layer alone (up, down; the
    # other layer is shared), or both layers, each with a draw of its own (separate).
    expert_part: Literal["ffn", "up", "down", "separate"] = "ffn"
    init: Place | None = None  # run directory or model folder whose weights training starts from; null = new weights
    gradient_checkpointing: bool = False  # recompute activations in the backward pass: less memory, more time

    @model_validator(mode="after")
    def _buildable(self) -> "ModelConfig":
        if self.layers * self.experts > 1000:
            raise ValueError(f"{self.layers} layers of {self.experts} experts: more than 1000; lower one of them")
        return self


class DataConfig(Section):
    """The training list, how clips are cut from videos, and how they are augmented."""

    train: Place | None = None  # training list: a manifest, or a folder with one folder per class
    root: Place | None = None  # folder that relative paths of the list start from; null = the folder of the list
    split: Text | None = None  # value of the column `split` of a .csv list to keep; null = all rows
    classes: Place | None = None  # class-name file; null = the names in the list or of the folders
    templates: Place | None = None  # prompt-template file, one {} per line; null = the 28 templates of the method
    frames: Count = 8  # frames of a clip
    size: Pixels | None = None  # height and width of the network's input in pixels; null = what the network expects
    interpolation: Literal["bicubic", "bilinear"] | None = None  # filter of resizing; null = the network's own
    # How a frame becomes a square: shortest (short side to size, then the central square), longest (long side to size,
    # bars), squash (both sides to size), crop (the central square, then to size); null = the network's own.
    resize: Literal["shortest", "longest", "squash", "crop"] | None = None
    fill: tuple[Level, Level, Level] | None = None  # colour of the bars, RGB; null = the network's own
    # Mean of a CLIP's pixels in [0, 1], R, G, B; null = its own.
    mean: tuple[Share, Share, Share] | None = None
    # Standard deviation of a CLIP's pixels in [0, 1], R, G, B; null = its own.
    std: tuple[AboveZero, AboveZero, AboveZero] | None = None
    # segment: a frame from each equal part of the video; dense: every stride-th.
    sampling: Literal["segment", "dense"] = "segment"
    stride: Positive = 4  # distance between the frames of a dense clip, in frames of the video
    difference: Natural = 0  # 0 = off; n: the network sees each frame minus the frame n before it
    # Archives of `mote data shard` shuffled together; null = the whole list is shuffled.
    shuffle_shards: Positive | None = None
    decoder: Literal["pyav", "decord", "decord_single"] = "pyav"  # decord, at once or one by one, errs on some files
    near_keyframes: bool = False  # training reads the key frame nearest to each sampled frame: cheaper decoding
    crop_scale: tuple[Share, Share] = (0.08, 1.0)  # smallest and largest area of a random crop, as shares of the frame
    flip: Share = 0.5  # probability of mirroring left and right; 0 where they tell classes apart
    grayscale: Share = 0.2  # probability of removing the colours
    workers: Few = 2  # processes that decode, for each training process; 0 = the training process itself
    cache_features: bool = False  # encode each training clip once, without augmentation; needs a frozen visual tower
    max_bad_fraction: Share = 0.0  # share of undecodable training videos that is skipped and listed; more is an error
    # Seconds after which a file counts as undecodable; null = no limit.
    decode_timeout: Annotated[float, Field(ge=0.01, le=1e6)] | None = 60.0

    @field_validator("crop_scale")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[1] >= value[0]:
            raise ValueError("expected the smallest area and then the largest, which is above 0")
        return value

    @property
    def preprocessing(self) -> dict[str, object]:
        """What is set of the preprocessing of pixels, by the names that models have for it; None: their own."""
        return {"interpolation": self.interpolation, "resize": self.resize, "fill": self.fill}


class TuningConfig(Section):
    """How the towers of the backbone are tuned. The temporal head is always tuned whole."""

    vision: Literal["frozen", "lora", "full"] = "full"  # visual tower; full learns at optim.backbone_lr_scale
    text: Literal["frozen", "lora", "full"] = "frozen"  # text tower; if tuned, every step computes the class features
    # Layers that get LoRA adapters: of attention, of feed-forward networks (mlp), or both.
    adapt: Literal["attention", "mlp", "all"] = "all"
    rank: Size = 16  # rank of the adapters
    alpha: AboveZero = 16.0  # the adapters' update is multiplied by alpha / rank
    lr_scale: AboveZero = 1.0  # learning rate of the adapters as a multiple of optim.lr
    text_prompts: Positive = 1  # prompts per class in a training step while text is tuned: the first of data.templates
    # Name patterns of parameters that stay fixed: "model.visual.*resblocks.[0-5].*".
    freeze: Annotated[tuple[Text, ...], Different] = ()


class LossConfig(Section):
    """Weights of the loss terms (MoTE, eq. 10) and the random draws of experts."""

    merged_weight: NonNegative = 0.5  # weight of the loss of randomly merged experts (lambda of the paper)
    anchor_weight: NonNegative = 0.1  # weight of the squared distance of the head's output from its input (eta)
    # The distance of anchor_weight: as in the authors' code, or as in the paper.
    anchor: Literal["released", "paper"] = "released"
    routing: Literal["one", "all"] = "one"  # draw one expert per layer and step, or run the batch through each expert
    # The merged pass learns from labels (ce), or from the routed pass (kl, mse).
    merged: Literal["ce", "kl", "mse"] = "ce"
    # Expert i is drawn by softmax(i / temperature); .inf = all alike.
    route_temperature: Annotated[float, Field(ge=1e-20, allow_inf_nan=True)] = 1.0
    # Set from which the merging temperature of a layer is drawn; each is positive or negative, .inf = all alike.
    merge_temperatures: Annotated[tuple[Annotated[float, Field(allow_inf_nan=True)], ...], Filled] = Field(
        default=(-9.6, -4.8, -2.4, -1.2, -0.6, 0.6, 1.2, 2.4, 4.8, 9.6, math.inf)
    )

    @field_validator("merge_temperatures")
    @classmethod
    def _temperatures(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not all(abs(value) >= 1e-20 for value in values):  # nor NaN
            raise ValueError("a temperature must be a number other than 0")
        return values


class MixingConfig(Section):
    """Mixed-sample augmentation of training batches (mote/datasets/mixing.py). Off without methods."""

    # What is mixed, and how; of several methods one is drawn each time. Empty = nothing is mixed.
    methods: Annotated[tuple[Literal["mixup", "cutmix", "hmix", "gmix"], ...], Different] = ()
    alpha: Moderate = 1.0  # the share lambda of the first sample is drawn from Beta(alpha, alpha)
    ratio: ShareAboveZero = 0.5  # hmix: volume of its box over the volume of the box of cutmix
    extent: Literal["space", "spacetime", "time"] = "space"  # axes the mask varies along; space: alike in all frames
    probability: Share = 1.0  # probability that a sample (per_sample) or a batch is mixed
    per_sample: bool = True  # draw method, lambda and mask for each sample; false = once for the batch


class RDropConfig(Section):
    """R-Drop (mote/regularizers/r_drop.py): two random passes should agree. Off with weight 0."""

    weight: NonNegative = 0.0  # weight of the divergence of the two passes, a mean over samples (alpha of the paper)
    temperature: Moderate = 1.0  # divides the logits inside the divergence


class ImbalanceConfig(Section):
    """What task=expression and task=video do about classes of unequal size (mote/config/imbalance_methods.py)."""

    # How the loss, the batches or the head make up for classes of unequal size.
    method: Literal[
        "ce",  # cross-entropy, nothing else
        "weighted",  # cross-entropy, class c weighted by 1 / n_c, n_c its number of training samples
        "sampler",  # batches draw all classes equally often
        "focal",  # focal loss
        "class_balanced",  # cross-entropy weighted by the inverse effective number of samples
        "ldam_drw",  # margins that grow with rarity, and class weights late in training
        "logit_adjustment",  # log class frequencies are added to the logits in training
        "balanced_softmax",  # the same at tau 1
        "crt",  # a new head on balanced batches; the network below is that of image.init
        "smoothing",  # uniform label smoothing
        "consistency",  # attention must agree with that of the mirror image (EAC), all classes alike
        "mek",  # consistency and smooth labels, both weighted by 1 / n_c (MEK)
    ] = "ce"
    strength: NonNegative = 1.0  # consistency, mek: weight of the attention term, see regularizers/extra_knowledge.py
    epsilon: ShareBelowOne = 0.1  # smoothing, mek: share of the target that the other classes get
    tau: Exponent = 1.0  # logit_adjustment: factor of the log frequencies
    gamma: Exponent = 2.0  # focal: exponent
    beta: ShareBelowOne = 0.9999  # class_balanced, ldam_drw: of the effective number of samples; 0 = all classes alike
    margin: Annotated[NonNegative, Field(le=2)] = 0.5  # ldam_drw: margin of the rarest class, in cosines
    scale: Moderate = 30.0  # ldam_drw: multiplier of the cosines of the head
    defer: Share = 0.8  # ldam_drw: share of training before its class weights are used
    # Correction in evaluation and prediction only: none; logit_adjustment, log class frequencies are subtracted from
    # the logits; tau_norm, weights of the head are divided by their norm to the power posthoc_tau.
    posthoc: Literal["none", "logit_adjustment", "tau_norm"] = "none"
    posthoc_tau: Exponent = 1.0  # strength of the correction `posthoc`; 0 = none


class OptimConfig(Section):
    """How weights are updated; the learning rate rises linearly, then follows `schedule`, update by update."""

    # Rule of the update: adamw (weight decay apart from the gradient), adam or sgd (decay added to the gradient).
    method: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: Annotated[AboveZero, Field(le=1e3)] = 5e-5  # learning rate of the temporal head, or of an image network
    backbone_lr_scale: NonNegative = 0.07  # learning rate of the backbone as a multiple of lr; 0 = frozen
    weight_decay: NonNegative = 0.2  # 0.2 suits adamw only; set it for the other methods
    betas: tuple[ShareBelowOne, ShareBelowOne] = (0.9, 0.999)  # decay of the means of gradients and of their squares
    momentum: ShareBelowOne = 0.9  # sgd: share of the last update that is kept
    no_decay_norm_bias: bool = False  # no weight decay on biases and normalisation layers
    epochs: Many = 30  # passes over the training list
    warmup_epochs: NonNegative = 5.0  # epochs of the linear rise; fewer than epochs
    # Learning rate after the rise: cosine (half a cosine), step (times lr_decay after each of milestones), exponential
    # (times lr_decay after each epoch), constant.
    schedule: Literal["cosine", "step", "exponential", "constant"] = "cosine"
    min_lr_ratio: Share = 0.0  # cosine: last learning rate, divided by lr
    lr_decay: ShareAboveZero = 0.1  # step, exponential: factor on the learning rate
    milestones: tuple[AboveZero, ...] = ()  # step: epochs after which the learning rate falls, in rising order
    batch_size: Many = 144  # samples per optimizer step, over all processes and accumulation steps
    accumulation: Positive = 1  # forward and backward passes per optimizer step: less memory, the same batch
    clip_norm: AboveZero | None = None  # largest norm of the gradient, longer ones are scaled down; null = no limit
    # Numbers of matrix products in training: fp32, bf16, fp16 (a GPU only); auto = bf16 where the hardware has it, else
    # fp32. Weights stay fp32.
    precision: Literal["fp32", "bf16", "fp16", "auto"] = "fp32"
    sync_routing: bool = False  # all processes draw the same experts in a step, and leave out the same parts

    @model_validator(mode="after")
    def _fits(self) -> "OptimConfig":
        if self.schedule == "step" and not self.milestones:
            raise ValueError("optim.schedule=step needs optim.milestones, such as [30,60]: epochs after which lr falls")
        if any(later <= earlier for earlier, later in pairwise(self.milestones)):
            raise ValueError(f"optim.milestones={[*self.milestones]}: write the epochs in rising order, each once")
        if self.method != "adamw" and "weight_decay" not in self.model_fields_set:
            why = f"optim.method={self.method} adds weight decay to the gradient, where adamw's default 0.2 is too much"
            raise ValueError(f"{why}; set optim.weight_decay, such as 5e-4, or 0 for none")
        return self


class SparsityConfig(Section):
    """Structured sparsity by group lasso (mote/sparsity); `mote compact` then removes what is zero."""

    strength: Share = 0.0  # share of its updates that a group must agree upon to stay; 0 = no sparsity
    groups: Annotated[  # kinds of groups of weights that become zero together
        tuple[Literal["units", "heads", "sublayers", "filters", "channels", "shapes"], ...], Different
    ] = ("units",)
    # Name pattern of a layer -> factor of strength; the first match counts.
    layers: Annotated[dict[Text, NonNegative], Filled] = Field(default={"*": 1.0})
    start: Share = 0.0  # share of training before the penalty
    ramp: Share = 0.1  # share of training over which the penalty grows to its full strength
    stop: Share = 0.7  # share of training after which the penalty ends; groups that are zero stay zero

    @model_validator(mode="after")
    def _ordered(self) -> "SparsityConfig":
        if not self.start < self.stop or not self.groups:
            raise ValueError("sparsity.start must be smaller than sparsity.stop, and sparsity.groups not empty")
        return self


class EvaluationConfig(Section):
    """The list that is scored, and how."""

    manifest: Place | None = None  # list to score: a manifest, or a folder with one folder per class
    root: Place | None = None  # folder that relative paths of the list start from; null = the folder of the list
    split: Text | None = None  # value of the column `split` of a .csv list to keep; null = all rows
    classes: Place | None = None  # class-name file for a zero-shot vocabulary; null = the classes of training
    templates: Place | None = None  # prompt-template file, one {} per line; null = those of the model
    clips: Count = 1  # clips per video, spread over its length
    crops: Literal[1, 3] = 1  # crops per frame: the central square, or three along the longer side
    places: Literal["even", "released"] = "even"  # of clips and crops; released: as the authors' code rounds and wraps
    # What is averaged over views: probabilities (mean_softmax), logits (mean_logits), as the authors do it (reference).
    fusion: Literal["mean_softmax", "reference", "mean_logits"] = "mean_softmax"
    modulation: bool | None = None  # temporal feature modulation; null = for other classes than those of training
    modulation_k: Positive | None = None  # nearest training classes a class is compared with; null = the model's, 5
    # Smaller = less of the temporal head for unlike classes; null = the model's, 0.05.
    modulation_gamma: Moderate | None = None
    alpha: Share = 1.0  # weights used: alpha * tuned + (1 - alpha) * original CLIP
    bad_videos: Literal["error", "count_wrong"] = "error"  # an undecodable video is an error, or counts as wrong
    batch_size: Many = 16  # videos decoded at once in a process; on a GPU, also encoded at once
    # Numbers of matrix products in evaluation: fp32, bf16; auto = bf16 where the hardware has it, else fp32.
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    cache: Place | None = "auto"  # folder of frame features; auto = the user's cache (none for tiny), null = none
    every: Positive = 1  # epochs between evaluations during training
    unknown: Place | None = None  # list or folder of clips of no listed class, to measure the answer "none of these"
    accept: ShareAboveZero = 0.95  # share of listed clips that must not get that answer
    page: bool = True  # write NAME/index.html; in training after the last epoch only
    name: FileName = "eval"  # NAME of the result files NAME.json and NAME.csv


class RunConfig(Section):
    """The run directory, what is kept in it, and where training runs."""

    out: Place | None = None  # run directory
    save_every: Positive | None = None  # optimizer steps between checkpoints; null = once an epoch
    keep: Positive = 1  # checkpoints kept in last/
    # What best/ holds: the last epoch, or the one with the highest such metric.
    select: Literal["last", "top1", "top5", "mean_class_recall"] = "last"
    # Programs that get the log as well; an extra package each.
    trackers: Annotated[tuple[Literal["tensorboard", "wandb"], ...], Different] = ()
    cpu: bool = False  # train on the CPU even where there is a GPU
