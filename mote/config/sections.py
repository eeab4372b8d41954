"""The sections of the configuration: every setting with its default, its range and what it means; no torch."""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Unit = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """Base of all sections: frozen, strict, unknown keys refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=True)


class ModelConfig(Section):
    """The network: CLIP towers and the temporal head on top of them."""

    backbone: str = "tiny"  # "tiny", or any open_clip architecture
    pretrained: str | None = None  # open_clip tag, or a local checkpoint file; "random" for random weights
    layers: Annotated[int, Field(ge=0)] = 4  # temporal layers; 0 = mean pooling
    experts: Positive = 4  # experts per layer; 1 = plain temporal transformer
    heads: Positive | None = None  # attention heads of the temporal layers; None = text width // 64
    same_init: bool = False  # all experts start equal (the paper's ablation)
    expert_part: Literal["ffn", "up", "down", "separate"] = "ffn"  # what is routed: both layers of the FFN as one, ...
    init: str | None = None  # model folder to start the weights from
    gradient_checkpointing: bool = False


class DataConfig(Section):
    """Training videos and how clips are cut from them."""

    train: str | None = None  # manifest or class-per-folder directory
    root: str | None = None  # what relative paths in the manifest are relative to; None = its folder
    split: str | None = None  # value of the CSV manifest's split column to keep
    classes: str | None = None  # class-name file; None = the names in the manifest or the folders
    templates: str | None = None  # prompt-template file; None = the 28 of the method
    frames: Positive = 8
    size: Positive | None = None  # pixels; None = what the CLIP tower takes
    sampling: Literal["segment", "dense"] = "segment"
    stride: Positive = 4  # frames between samples when dense
    difference: Annotated[int, Field(ge=0)] = 0  # > 0: the model sees each frame minus that so many frames earlier
    shuffle_shards: Positive | None = None  # archives of `mote data shard` shuffled together; None = the whole list
    near_keyframes: bool = False  # training clips take the key frame next to each sampled one: cheaper, see docs
    decoder: Literal["pyav", "decord"] = "pyav"  # decord: not always the frames asked for, for comparison only
    crop_scale: tuple[Unit, Unit] = (0.08, 1.0)  # area of the random-resized crop
    flip: Unit = 0.5  # probability; set 0 where left and right are classes
    grayscale: Unit = 0.2  # probability
    workers: Annotated[int, Field(ge=0)] = 2
    cache_features: bool = (
        False  # encode every training clip once, without augmentation (needs optim.backbone_lr_scale=0)
    )
    max_bad_fraction: Unit = 0.0  # undecodable training videos tolerated; they are skipped, counted and listed
    decode_timeout: Annotated[float, Field(gt=0)] | None = 60.0  # seconds until a file counts as bad; None waits


class TuningConfig(Section):
    """Which weights of the CLIP towers are tuned, and through what. The temporal head is always tuned whole."""

    vision: Literal["frozen", "lora", "full"] = "full"  # "full" learns at optim.lr * optim.backbone_lr_scale
    text: Literal["frozen", "lora", "full"] = "frozen"  # tuned: class features are recomputed inside every step
    adapt: Literal["attention", "mlp", "all"] = "all"  # layers that get LoRA adapters
    rank: Positive = 16  # of the adapters
    alpha: Annotated[float, Field(gt=0)] = 16.0  # the adapters' update is scaled by alpha / rank
    lr_scale: Annotated[float, Field(gt=0)] = 1.0  # learning rate of the adapters relative to optim.lr
    text_prompts: Positive = 1  # prompts per class in a training step while text is tuned: the first of data.templates
    freeze: tuple[str, ...] = ()  # parameters that stay as they are, by pattern: "model.visual.*resblocks.[0-5].*"


class LossConfig(Section):
    """Weights of the loss terms (MoTE eq. 10) and the draws behind them."""

    merged_weight: NonNegative = 0.5
    anchor_weight: NonNegative = 0.1
    anchor: Literal["released", "paper"] = "released"
    routing: Literal["one", "all"] = "one"  # an expert is drawn for each step, or every batch goes through all of them
    merged: Literal["ce", "kl", "mse"] = "ce"  # of the merged pass: with the labels, or with what the routed pass says
    route_temperature: Annotated[float, Field(gt=0)] = 1.0  # P(i) = softmax(i / it); .inf: uniform, 1e-3: the last only
    merge_temperatures: tuple[float, ...] = Field(
        default=(-9.6, -4.8, -2.4, -1.2, -0.6, 0.6, 1.2, 2.4, 4.8, 9.6, math.inf), min_length=1
    )


class MixingConfig(Section):
    """Mixed-sample augmentation of the training batches (mote/datasets/mixing.py); off without methods."""

    methods: tuple[Literal["mixup", "cutmix", "hmix", "gmix"], ...] = ()  # of several, one is drawn each time
    alpha: Annotated[float, Field(gt=0)] = 1.0  # lambda is drawn from Beta(alpha, alpha)
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.5  # of hmix: its box over that of cutmix
    extent: Literal["space", "spacetime", "time"] = "space"  # what the mask varies over; space: the same for all frames
    probability: Unit = 1.0  # of a sample (a batch) being mixed
    per_sample: bool = True  # draw method, lambda and box for each sample; false: once for the batch


class RDropConfig(Section):
    """R-Drop (mote/regularizers/r_drop.py): two random passes should agree. Off with weight 0."""

    weight: NonNegative = 0.0  # alpha of the paper, on the mean over samples; independent of the batch size
    temperature: Annotated[float, Field(gt=0)] = 1.0  # divides the logits inside the KL


class ImageConfig(Section):
    """The network and the pictures of task=image and task=expression."""

    net: str = (
        "resnet20"  # lenet, mlp, resnet8, resnet20, resnet32, timm:NAME, or backbone: model.backbone with class names
    )
    pretrained: bool = False  # timm: download its weights
    init: str | None = (
        None  # run or model folder of the same net to start from, such as what `mote compact` wrote; with
    )
    # task=expression also a file of weights, of which everything but the head is taken
    channels: Literal[1, 3] = 3
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    pad: Annotated[int, Field(ge=0)] = 0  # > 0: pad and crop at random, in place of data.crop_scale
    mean: tuple[float, ...] = (0.5,)  # of pixels in [0, 1], one or one a channel; timm and clip have their own
    std: tuple[Annotated[float, Field(gt=0)], ...] = (0.25,)


class ImbalanceConfig(Section):
    """What task=expression and task=video do about classes of unequal size; losses: mote/regularizers/long_tail.py."""

    method: Literal[
        "ce",
        "weighted",
        "sampler",
        "focal",
        "class_balanced",
        "ldam_drw",
        "logit_adjustment",
        "balanced_softmax",
        "crt",  # the head anew, on balanced batches; the rest is the run of image.init
        "smoothing",
        "consistency",  # EAC: all classes alike
        "mek",
    ] = "ce"
    strength: NonNegative = (
        1.0  # Lambda of consistency and mek: the published lambda times the sum of its weights; on cosines with CLIP
    )
    epsilon: Unit = 0.1  # of smoothing and mek
    tau: NonNegative = 1.0  # of logit_adjustment
    gamma: NonNegative = 2.0  # of focal
    beta: Annotated[float, Field(ge=0, lt=1)] = 0.9999  # of class_balanced and ldam_drw
    margin: NonNegative = 0.5  # of the rarest class, ldam_drw
    scale: Annotated[float, Field(gt=0)] = 30.0  # of the cosine head of ldam_drw
    defer: Unit = 0.8  # share of the training of ldam_drw before its weights
    posthoc: Literal["none", "logit_adjustment", "tau_norm"] = "none"  # in evaluation and prediction only
    posthoc_tau: NonNegative = 1.0


class OptimConfig(Section):
    """AdamW, warm-up and half cosine on optimizer steps."""

    lr: Annotated[float, Field(gt=0)] = 5e-5
    backbone_lr_scale: NonNegative = 0.07  # learning rate of the CLIP tower relative to lr; 0 = frozen
    weight_decay: NonNegative = 0.2
    betas: tuple[Unit, Unit] = (0.9, 0.999)
    no_decay_norm_bias: bool = False
    epochs: Positive = 30
    warmup_epochs: NonNegative = 5.0
    batch_size: Positive = 144  # clips per optimizer step, over all processes and accumulation steps
    accumulation: Positive = 1
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    precision: Literal["fp32", "bf16", "fp16", "auto"] = "fp32"  # auto = bf16 where the hardware has it, else fp32
    sync_routing: bool = False  # the same expert draws on every process


class SparsityConfig(Section):
    """Structured sparsity by group lasso (mote/sparsity); `mote compact` then removes what is zero."""

    strength: NonNegative = 0.0  # 0 = off; under AdamW at most 1: the share of updates a group must agree on to live
    groups: tuple[Literal["units", "heads", "sublayers", "filters", "channels", "shapes"], ...] = ("units",)
    layers: dict[str, NonNegative] = Field(
        default={"*": 1.0}, min_length=1
    )  # name pattern -> factor; first match counts
    start: Unit = 0.0  # fraction of the run before the penalty
    ramp: Unit = 0.1  # fraction of the run over which it grows to full strength
    stop: Unit = 0.7  # fraction of the run after which living groups are fine-tuned and dead ones stay dead

    @model_validator(mode="after")
    def _ordered(self) -> "SparsityConfig":
        if not self.start < self.stop or not self.groups:
            raise ValueError("sparsity.start must be smaller than sparsity.stop, and sparsity.groups not empty")
        return self


class AutoencoderConfig(Section):
    """The network, prior and loss of task=autoencoder, whose pictures are those of `data` and `image.channels`."""

    method: Literal["gm", "ae", "vae", "wae_mmd"] = "gm"  # gm: mixture prior; ae: a mixture is fitted afterwards; ...
    latent: Positive = 16  # dimensions of the latent
    width: Positive = 16  # channels of the first convolution; doubled at each halving
    modes: Positive = 10  # Gaussians of the mixture; a vae has one
    separation: Annotated[float, Field(gt=0)] = 6.0  # distance of the modes in std; below 4 no batch can tell them
    conditional: bool = False  # gm: class k is mode k, from the labels; needs as many modes as classes
    reconstruction_weight: NonNegative = 2000.0  # of the mean squared error of pixels in [0, 1]: 1 / the error aimed at
    cdf_weight: NonNegative = 1.0  # gm: of each latent term over its value for a perfect encoder, so 1 is its null
    covariance_weight: NonNegative = 1.0
    mean_weight: NonNegative = 1.0
    kl_weight: NonNegative = 1.0  # vae: of the KL divergence in nats
    mmd_weight: NonNegative = 100.0  # wae_mmd: of MMD^2 to the mixture
    judge: str | None = None  # run of task=image whose features and classes score the samples; None = neither

    @model_validator(mode="after")
    def _fitting(self) -> "AutoencoderConfig":
        if self.method in ("gm", "wae_mmd") and self.modes > self.latent:
            raise ValueError(
                f"{self.modes} modes of {self.method} need a latent of at least {self.modes} dimensions, one axis each "
                f"to be {self.separation:g} std apart; got autoencoder.latent={self.latent}"
            )
        if self.conditional and self.method != "gm":
            raise ValueError(f"autoencoder.conditional is for method=gm, got {self.method}")
        return self


class EvaluationConfig(Section):
    """What is scored and how; empty class list = the training classes (closed-set)."""

    manifest: str | None = None
    root: str | None = None
    split: str | None = None
    classes: str | None = None  # None = the classes the model was tuned on; a file = zero-shot vocabulary
    templates: str | None = None
    clips: Positive = 1
    crops: Literal[1, 3] = 1
    fusion: Literal["mean_softmax", "reference", "mean_logits"] = "mean_softmax"
    modulation: bool | None = None  # temporal feature modulation; None = on for zero-shot, off for closed-set
    modulation_k: Positive = 5
    modulation_gamma: Annotated[float, Field(gt=0)] = 0.05
    alpha: Unit = 1.0  # alpha * tuned + (1 - alpha) * original CLIP weights; the released test scripts use 0.99
    bad_videos: Literal["error", "count_wrong"] = "error"
    batch_size: Positive = 16  # videos decoded at once in a process; on a GPU, also encoded at once
    precision: Literal["fp32", "bf16", "auto"] = "fp32"  # of matrix products; auto = bf16 where the hardware has it
    cache: str | None = "auto"  # folder of frame features; auto = the user's cache, none for tiny CLIP; null = none
    every: Positive = 1  # epochs between evaluations during training
    unknown: str | None = None  # list or folder of clips of no listed class, to measure "none of these" on
    accept: Annotated[float, Field(gt=0, le=1)] = 0.95  # share of the listed clips that "none of these" must spare
    page: bool = True  # draw NAME/index.html (in training after the last epoch only)
    name: str = "eval"  # stem of the result files


class RunConfig(Section):
    """Where the run lives and what it keeps."""

    out: str | None = None
    save_every: Positive | None = None  # optimizer steps between checkpoints; None = once an epoch
    keep: Positive = 1  # checkpoints kept in last/
    select: Literal["last", "top1", "top5", "mean_class_recall"] = (
        "last"  # best/: the last epoch, or the highest metric
    )
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = ()
    cpu: bool = False  # stay on the CPU though there is a GPU
