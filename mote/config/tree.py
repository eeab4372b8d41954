"""The whole configuration tree, and the checks that see two sections at once."""

from collections.abc import Sequence
from typing import Literal

from pydantic import model_validator

from mote.config.image_sections import AutoencoderConfig, ImageConfig
from mote.config.imbalance_methods import METHODS, POSTHOC_METHODS
from mote.config.kinds import Seed
from mote.config.sections import (
    DataConfig,
    EvaluationConfig,
    ImbalanceConfig,
    LossConfig,
    MixingConfig,
    ModelConfig,
    OptimConfig,
    RDropConfig,
    RunConfig,
    Section,
    SparsityConfig,
    TuningConfig,
)

MAX_FRAMES = 77  # of a new temporal head, `mote.models.temporal`


class Config(Section):
    """The whole tree. A run directory holds it as `config.yaml`."""

    seed: Seed = 0  # seed of every random draw; the same seed gives the same run
    # What is trained: video, a CLIP model with a temporal head; image, a network for still images; expression, one for
    # faces whose classes are unequal in size; autoencoder, an image autoencoder to draw samples from.
    task: Literal["video", "image", "expression", "autoencoder"] = "video"
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    image: ImageConfig = ImageConfig()
    imbalance: ImbalanceConfig = ImbalanceConfig()
    tuning: TuningConfig = TuningConfig()
    loss: LossConfig = LossConfig()
    sparsity: SparsityConfig = SparsityConfig()
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    mixing: MixingConfig = MixingConfig()
    r_drop: RDropConfig = RDropConfig()
    optim: OptimConfig = OptimConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    run: RunConfig = RunConfig()

    def is_like(self, other: "Config", tasks: Sequence[str]) -> bool:
        """Whether both are of the same task, or this one of one of `tasks`."""
        return self.task == other.task or self.task in tasks

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        if self.task == "video":
            self._consistent_video()
        elif self.task == "autoencoder":
            self._consistent_autoencoder()
        else:
            self._consistent_image()
        if self.data.train is not None:
            self._consistent_steps()
        if self.data.cache_features and self.vision_learns:
            raise ValueError("data.cache_features needs a frozen CLIP tower; set tuning.vision=frozen")
        if self.data.cache_features and self.mixing.methods:
            raise ValueError("mixing needs pixels, which data.cache_features does not keep; switch one of them off")
        if self.data.near_keyframes and (self.data.difference or self.data.sampling == "dense"):
            raise ValueError(
                "data.near_keyframes moves frames, so it needs data.sampling=segment and data.difference=0"
            )
        return self

    def _consistent_steps(self) -> None:
        """What training needs whatever the task."""
        optim = self.optim
        if optim.warmup_epochs >= optim.epochs:
            raise ValueError(
                f"optim.warmup_epochs={optim.warmup_epochs:g} must be less than optim.epochs={optim.epochs}; lower the "
                "warm-up, or train for longer"
            )
        if optim.batch_size % optim.accumulation:
            raise ValueError(
                f"optim.batch_size={optim.batch_size} must be a multiple of optim.accumulation={optim.accumulation}"
            )
        if optim.lr * optim.weight_decay >= 1:
            raise ValueError(
                f"optim.weight_decay={optim.weight_decay:g} times optim.lr={optim.lr:g} is 1 or more: every update "
                "would throw all weights away; lower one of them"
            )
        if self.mixing.methods and self.mixing.probability and optim.batch_size == optim.accumulation:
            raise ValueError("mixing needs two samples at once; raise optim.batch_size or lower optim.accumulation")

    def _consistent_video(self) -> None:
        method = self.imbalance.method
        mirrored = METHODS[method].consistency and self.imbalance.strength > 0
        still = self.model.layers == 0 and self.optim.backbone_lr_scale == 0
        if still and "lora" not in {self.tuning.vision, self.tuning.text} and self.data.train is not None:
            raise ValueError("model.layers=0 with optim.backbone_lr_scale=0 leaves nothing to train; raise one of them")
        drawn = self.model.layers and self.model.experts > 1 and self.loss.routing == "one"
        if self.r_drop.weight and not drawn:
            raise ValueError(
                "r_drop needs passes that differ: with one expert, no temporal head or loss.routing=all no routing is "
                "drawn; set model.experts > 1 and loss.routing=one, or r_drop.weight=0"
            )
        if self.model.layers and self.model.init is None and self.data.frames > MAX_FRAMES:
            raise ValueError(
                f"data.frames={self.data.frames}: the temporal head has positions for {MAX_FRAMES} frames; lower it"
            )
        if head := self.linear_head_for:
            raise ValueError(f"{head} needs a linear head; a video model has class features in its place")
        if mirrored and self.data.cache_features:
            raise ValueError(
                f"imbalance.method={method} compares clips with their mirror images: it needs pixels, which "
                "data.cache_features does not keep; switch it off, or set imbalance.strength=0"
            )
        if mirrored and not self.vision_learns and self.data.train is not None:
            raise ValueError(
                f"imbalance.method={method}: its attention consistency teaches the CLIP tower, which does "
                "not learn here; set tuning.vision=full and optim.backbone_lr_scale > 0, or imbalance.strength=0"
            )

    def _consistent_image(self) -> None:
        if self.data.cache_features:
            raise ValueError("data.cache_features is for task=video")
        backbone, head, imbalance = self.image.net == "backbone", self.linear_head_for, self.imbalance
        method = METHODS[imbalance.method]
        if self.task == "expression" and backbone and head:
            raise ValueError(f"{head} needs a linear head; image.net=backbone has class features in its place")
        if self.task == "expression" and method.head_only and self.image.init is None:
            raise ValueError(
                f"imbalance.method={imbalance.method} trains the head of another run anew; name it with image.init"
            )
        if POSTHOC_METHODS[imbalance.posthoc].normalizes_head and method.cosine_head:
            raise ValueError(
                f"{imbalance.posthoc}: the cosine head of {imbalance.method} is normalised already; leave "
                "imbalance.posthoc=none"
            )
        if self.mixing.extent != "space":
            raise ValueError(f"mixing.extent={self.mixing.extent} is for clips; images need mixing.extent=space")
        if self.r_drop.weight and (self.image.dropout == 0 or backbone):
            raise ValueError(
                "r_drop needs passes that differ; set image.dropout > 0 (backbone has none), or r_drop.weight=0"
            )
        if {len(self.image.mean), len(self.image.std)} - {1, self.image.channels}:
            raise ValueError("image.mean and image.std need one number, or one for each of image.channels")
        if backbone and self.image.channels != 3:
            raise ValueError("image.net=backbone takes colour images; set image.channels=3")

    def _consistent_autoencoder(self) -> None:
        settings = self.autoencoder
        if self.data.cache_features:
            raise ValueError("data.cache_features is for task=video")
        if self.mixing.methods or self.r_drop.weight:
            raise ValueError("mixing and r_drop are for classifiers; task=autoencoder has no classes to predict")
        if self.run.select != "last":
            raise ValueError(f"run.select={self.run.select} is for classifiers; leave run.select=last")
        codes = self.optim.batch_size // self.optim.accumulation
        if settings.method == "ae" and self.seed >= 2**32:
            raise ValueError(f"autoencoder.method=ae takes seeds below 2^32, got seed={self.seed}")
        if settings.method == "gm" and codes <= settings.latent:
            raise ValueError(
                f"the covariance of a latent of {settings.latent} dimensions needs more codes than that at once; got "
                f"{codes} (optim.batch_size / optim.accumulation); raise optim.batch_size or lower autoencoder.latent"
            )

    @property
    def has_backbone(self) -> bool:
        """Whether the network contains the CLIP model of `model.backbone`."""
        return self.task == "video" or (self.task in ("image", "expression") and self.image.net == "backbone")

    @property
    def linear_head_for(self) -> str | None:
        """The value of `imbalance.method` or `imbalance.posthoc` that works on a linear head only, if one is set."""
        imbalance = self.imbalance
        if METHODS[imbalance.method].head_only:
            return imbalance.method
        return imbalance.posthoc if POSTHOC_METHODS[imbalance.posthoc].normalizes_head else None

    @property
    def vision_learns(self) -> bool:
        """Whether training changes the features of frames."""
        tuning = self.tuning.vision
        return tuning == "lora" or (tuning == "full" and self.optim.backbone_lr_scale > 0)
