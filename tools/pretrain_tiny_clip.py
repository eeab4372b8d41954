"""Pretrain tiny CLIP on generated still image-text pairs: `python tools/pretrain_tiny_clip.py`, 25 minutes, 2 cores.

Images are single frames of the synthetic world (`mote.datasets.synthetic`), drawn as they are needed, each new; half of
them pass through JPEG so that features survive video compression. Captions state some of what is true of the image
(colour and shape, background, size, place) in one of the method's 28 prompt templates and never a motion. The
objects in `HELD_OUT` are in no image and no caption: they measure whether colour and shape are understood apart.

Loss: symmetric InfoNCE over the batch, where a pair (image i, caption j != i) counts as a negative only if caption j
states something untrue of image i. Optimisers: Muon for the matrices of the transformer blocks, AdamW for the rest.

Writes `tiny_clip.safetensors` (fp16), `tiny_clip.json` (model configuration and vocabulary) and `tiny_clip_card.md`,
now and then during the run and once more at its end.
"""

import argparse
import io
import json
import math
import platform
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm

from mote.datasets.drawing import BACKGROUNDS, COLOURS, SHAPES
from mote.datasets.synthetic import COLUMNS, HELD_OUT, MOTIONS, OBJECTS, PRETRAINED, ROWS, Still, render_still
from mote.models.tiny import ASSETS, LETTERS, TINY_MEAN, TINY_STD, TinyTokenizer, vocabulary_size

PHRASES = (
    "{}.",
    *(f"a person {verb}{{}}." for verb in ("", "using ", "doing ", "during ", "performing ", "practicing ")),
)
TEMPLATES = [f"a {kind} of {phrase}" for phrase in PHRASES for kind in ("photo", "video", "example", "demonstration")]
GRAMMAR = ("an", "the", "on", "in", "at", "background", "thing")
SIZES, LEANS, STRENGTHS = (
    ("small", "medium", "large"),
    ("leaning left", "upright", "leaning right"),
    ("bright", "faded"),
)
FACTS = (tuple(COLOURS), SHAPES, BACKGROUNDS, COLUMNS, ROWS, SIZES, LEANS, STRENGTHS)
SPARE = tuple(dict.fromkeys(word for motion in MOTIONS for word in motion.split()))  # words without a picture


class Batch(NamedTuple):
    """B image-text pairs and 32 phrases without images."""

    images: Tensor  # uint8 (B, 3, 64, 64)
    tokens: Tensor  # captions, token ids (B, L)
    facts: Tensor  # the facts of FACTS about each image, as numbers (B, 8)
    stated: Tensor  # which of them the caption states (B, 8)
    phrases: (
        Tensor  # token ids (96, L): the phrases in one template, in another, and the latter without the spare words
    )


def vocabulary() -> list[str]:
    """All words of templates, captions and class names, in a fixed order; 'a' has its token as a letter."""
    texts = [*TEMPLATES, *(name for names in FACTS for name in names), *GRAMMAR, *SPARE, ","]
    words = [word for text in texts for word in text.replace("{}", " ").replace(".", " . ").split()]
    return [word for word in dict.fromkeys(words) if word != "a"]


def model_config(num_tokens: int) -> dict:
    """open_clip configuration: 64 px, patch 16, width 128, 4 vision and 2 text layers."""
    return {
        "embed_dim": 128,
        "vision_cfg": {"image_size": 64, "patch_size": 16, "layers": 4, "width": 128, "head_width": 32},
        "text_cfg": {"context_length": 32, "vocab_size": num_tokens, "layers": 2, "width": 128, "heads": 4},
    }


def build(config: dict) -> nn.Module:
    """Model of `config` with random weights, through open_clip's factory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mote_tiny_pretraining.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        open_clip.add_model_config(path)
        return open_clip.create_model("mote_tiny_pretraining")


def describe(rng: np.random.Generator, thing: str, still: Still) -> tuple[str, list[int], list[bool]]:
    """A true caption of a still, the eight facts about it as numbers in `FACTS`, and which of them it states."""
    values = (*thing.split(), *still[1:])
    facts = [names.index(value) for names, value in zip(FACTS, values, strict=True)]
    kind = rng.random()  # mostly colour and shape, sometimes one of them
    told = [kind > 0.12, not 0.12 < kind < 0.24, *(rng.random(6) < (0.15, 0.4, 0.4, 0.3, 0.3, 0.2))]
    told[5] &= still.size != "medium"
    colour, shape, background, column, row, size, lean, strength = (
        value if tell else "" for value, tell in zip(values, told, strict=True)
    )
    noun = [strength, size, colour, shape or "thing"]
    place = [column and ("in the centre" if column == "centre" else f"on the {column}")]
    place += [row and ("at mid height" if row == "mid height" else f"at the {row}")]
    words = " ".join(filter(None, [*noun, lean, *place, background and f"on a {background} background"]))
    if rng.random() < 0.5:
        words = f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
    return any_template(rng).format(words), facts, [bool(tell) for tell in told]


def any_template(rng: np.random.Generator) -> str:
    """One of the 28 templates."""
    return TEMPLATES[rng.integers(len(TEMPLATES))]


def invent_phrases(rng: np.random.Generator) -> list[str]:
    """8 objects x 4 additions, in three versions (96 texts): one template, another template, and that without addition.

    Additions are one or two spare words, or a word of random letters.
    """
    first, second, plain = [], [], []
    for thing in rng.choice(PRETRAINED, 8, replace=False):
        additions = {" ".join(rng.choice(SPARE, rng.integers(1, 3), replace=False)) for _ in range(3)}
        while len(additions) < 4:
            additions.add("".join(rng.choice(list(LETTERS), rng.integers(3, 8))))
        for addition in additions:
            template = any_template(rng)
            first.append(any_template(rng).format(f"{thing} {addition}"))
            second.append(template.format(f"{thing} {addition}"))
            plain.append(template.format(thing))
    return first + second + plain


def through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """The image after JPEG compression with halved chroma, which damages it much as H.264 does."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


class Pairs(IterableDataset):
    """Endless batches of new image-text pairs; batch n of worker w of W depends on (seed, w + n W) alone."""

    def __init__(self, batch_size: int, seed: int, words: list[str]):
        self.batch_size, self.seed, self.tokenizer = batch_size, seed, TinyTokenizer(words, context_length=32)

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        number, step = (worker.id, worker.num_workers) if worker else (0, 1)
        while True:
            yield self.batch(np.random.default_rng((self.seed, number)))
            number += step

    def batch(self, rng: np.random.Generator) -> Batch:
        """One batch of new pairs."""
        images, captions, facts, stated = [], [], [], []
        for thing in rng.choice(PRETRAINED, self.batch_size):
            still = render_still(rng, str(thing))
            images.append(through_jpeg(still.image, int(rng.integers(40, 96))) if rng.random() < 0.5 else still.image)
            for column, value in zip((captions, facts, stated), describe(rng, str(thing), still), strict=True):
                column.append(value)
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "tiny CLIP has no token", UserWarning)  # meant, in the phrases
            phrases = self.tokenizer(invent_phrases(rng))
        return Batch(pixels, self.tokenizer(captions), torch.tensor(facts), torch.tensor(stated), phrases)


def normalise(images: Tensor) -> Tensor:
    """uint8 (B,3,H,W) to float with CLIP's mean and deviation."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (TINY_MEAN, TINY_STD))
    return (images / 255 - mean) / std


def encode_captions(model: nn.Module, tokens: Tensor) -> Tensor:
    """`model.encode_text` without the padding after the longest caption; the mask is causal, so nothing changes."""
    end = tokens.argmax(dim=1)
    length = int(end.max()) + 1
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return x[torch.arange(len(x)), end] @ model.text_projection


def losses(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """The weighted terms: `pairs` of images and captions, `words` and `object` of the phrases."""
    # PyTorch's fused attention takes half of the time of a step here, in the backward pass; plain matmuls take little.
    with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16):
        images = model.encode_image(normalise(batch.images))
        captions, phrases = encode_captions(model, batch.tokens), encode_captions(model, batch.phrases)
    images, captions, phrases = (F.normalize(x.float(), dim=-1) for x in (images, captions, phrases))
    same = batch.facts[:, None, :] == batch.facts[None, :, :]  # (image, caption, fact)
    true = (same | ~batch.stated[None, :, :]).all(dim=-1) & ~torch.eye(len(images), dtype=torch.bool)
    pairs = symmetric_cross_entropy((model.logit_scale.exp() * images @ captions.T).masked_fill(true, -torch.inf))
    first, second, plain = phrases.chunk(3)
    words = symmetric_cross_entropy(20 * first @ second.T)
    thing = 1 - (first * plain.detach()).sum(dim=-1).mean()
    return {"pairs": pairs, "words": 0.25 * words, "object": 0.5 * thing}


def symmetric_cross_entropy(logits: Tensor) -> Tensor:
    """Mean of the cross-entropies of rows and of columns; the diagonal is right."""
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def optimisers(model: nn.Module, muon_lr: float, adam_lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW without decay for embeddings, projections, norms and biases."""
    matrices = [p for name, p in model.named_parameters() if "resblocks" in name and p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    muon = torch.optim.Muon(matrices, lr=muon_lr, weight_decay=0.01)
    return [muon, torch.optim.AdamW(rest, lr=adam_lr, betas=(0.9, 0.98), weight_decay=0)]


def rate(progress: float) -> float:
    """Factor of the learning rates: short warm-up, constant, linear to zero over the last 40 %."""
    return min(1.0, progress / 0.02, (1 - progress) / 0.4)


@torch.no_grad()
def zero_shot(model: nn.Module, words: list[str], things: tuple[str, ...], count: int, seed: int) -> int:
    """How many of `count` new images of `things` the model names rightly among all 80 objects."""
    tokenizer = TinyTokenizer(words, context_length=32)
    texts = [
        model.encode_text(tokenizer([t.format(name) for t in TEMPLATES]), normalize=True).mean(0) for name in OBJECTS
    ]
    rng = np.random.default_rng((seed, 1))
    labels = [OBJECTS.index(things[i % len(things)]) for i in range(count)]
    images = torch.from_numpy(np.stack([render_still(rng, OBJECTS[label]).image for label in labels])).permute(
        0, 3, 1, 2
    )
    features = torch.cat([model.encode_image(normalise(part), normalize=True) for part in images.split(256)])
    return int((features @ F.normalize(torch.stack(texts), dim=-1).T).argmax(1).eq(torch.tensor(labels)).sum())


def wilson(right: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % Wilson score interval of a proportion, in percent."""
    p, denominator = right / count, 1 + z * z / count
    centre = p + z * z / (2 * count)
    half = z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return 100 * (centre - half) / denominator, 100 * (centre + half) / denominator


def portable(model: nn.Module) -> dict[str, Tensor]:
    """The weights in fp16."""
    return {name: tensor.detach().half().contiguous() for name, tensor in model.state_dict().items()}


def save(folder: Path, model: nn.Module, config: dict, words: list[str]) -> None:
    """Write weights, configuration and vocabulary, each under a temporary name first."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(portable(model), folder / "weights.part")
    (folder / "config.part").write_text(
        json.dumps({"model": config, "words": words}, indent=1) + "\n", encoding="utf-8"
    )
    (folder / "weights.part").replace(folder / "tiny_clip.safetensors")
    (folder / "config.part").replace(folder / "tiny_clip.json")
    (folder / "tiny_clip.safetensors").chmod(0o644)


def train(args: argparse.Namespace, model: nn.Module, config: dict, words: list[str]) -> tuple[int, float]:
    """Run the optimisation; returns the number of steps and the seconds taken."""
    opts = optimisers(model, args.muon_lr, args.adam_lr)
    base = [opt.param_groups[0]["lr"] for opt in opts]
    loader = iter(DataLoader(Pairs(args.batch_size, args.seed, words), batch_size=None, num_workers=args.workers))
    start, step, progress, recent = time.perf_counter(), 0, 0.0, None
    with tqdm(total=100, unit="%", disable=None, bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}") as bar:
        while progress < 1:
            for opt, lr in zip(opts, base, strict=True):
                opt.param_groups[0]["lr"] = lr * max(rate(progress), 1e-3)
            batch = next(loader)
            terms = losses(model, batch)
            loss = sum(terms.values())
            if not loss.isfinite():
                raise FloatingPointError(f"loss is {loss.item()} at step {step}; lower --muon-lr or --adam-lr")
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for opt in opts:
                opt.step()
                opt.zero_grad()
            with torch.no_grad():
                model.logit_scale.clamp_(max=math.log(100))
            step += 1
            now = torch.stack(list(terms.values())).detach()
            recent = now if recent is None else 0.98 * recent + 0.02 * now
            elapsed = time.perf_counter() - start
            progress = step / args.steps if args.steps else elapsed / (60 * args.minutes)
            bar.update(min(100, 100 * progress) - bar.n)
            if step % args.report_every == 0:
                seen, new = (zero_shot(model, words, things, 320, 7) / 3.2 for things in (PRETRAINED, HELD_OUT))
                shown = " ".join(f"{name} {value:.3f}" for name, value in zip(terms, recent.tolist(), strict=True))
                tqdm.write(f"step {step} {elapsed:.0f}s {shown} seen {seen:.1f}% held-out {new:.1f}%", sys.stderr)
                save(args.out, model, config, words)
    return step, time.perf_counter() - start


def card(args: argparse.Namespace, results: dict[str, tuple[int, int]], step: int, seconds: float) -> str:
    """The model card, as text."""
    command = " ".join(["python", "tools/pretrain_tiny_clip.py", *sys.argv[1:]])
    rows = []
    for name, (right, count) in results.items():
        low, high = wilson(right, count)
        rows.append(f"| {name} | 80 | {count} | {100 * right / count:.1f} % | {low:.1f} to {high:.1f} % |")
    return CARD.format(
        command=command,
        seed=args.seed,
        steps=step,
        images=f"{step * args.batch_size:,}",
        batch=args.batch_size,
        minutes=f"{seconds / 60:.0f}",
        threads=args.threads,
        muon=args.muon_lr,
        adam=args.adam_lr,
        pretrained=len(PRETRAINED),
        held_out=", ".join(HELD_OUT),
        rows="\n".join(rows),
        python=platform.python_version(),
        torch=torch.__version__,
        open_clip=open_clip.__version__,
        numpy=np.__version__,
    )


CARD = """# Tiny CLIP

A CLIP small enough to ship with the package: 64 px, patch 16, width 128, 4 vision and 2 text layers, 128-dimensional
embedding, 1.3 million parameters in fp16. It exists so that every path of this project, from files to zero-shot scores,
runs on a laptop without a download. Written by `tools/pretrain_tiny_clip.py`, which holds every detail.

## Data

Generated still images of the synthetic world (`mote/datasets/synthetic.py`), each drawn once: {pretrained} objects
(8 colours x 10 shapes, less the held-out ones) in random size, place, angle and texture over textured backgrounds with
distractors; half of them after JPEG compression. Captions in the method's 28 templates state colour and shape, and now
and then background, size and place. No image shows motion and no caption names one: the motion words of the
synthetic classes have random token rows. Never shown, in image or caption:
{held_out}.

## Training

    {command}

Seed {seed}; {steps} steps of {batch} pairs ({images} images) in {minutes} minutes on {threads} CPU thread(s) beside the
process that draws. Symmetric InfoNCE in which captions that are true of another image of the batch are not its
negatives; Muon (learning rate {muon}) for the matrices of the blocks, AdamW ({adam}) for the rest; short warm-up, then
constant, then linear to zero. Without `--steps` the clock sets the length of the run, so a repetition gives a similar
model, not the same bits. Python {python}, PyTorch {torch}, open_clip {open_clip}, NumPy {numpy}.

## Accuracy

Zero-shot among all 80 objects, 28 templates, on new images of the same generator (95 % Wilson intervals):

| objects | classes | images | top-1 | interval |
|---|---|---|---|---|
{rows}

## Limits

It knows this world only: eight colours, ten shapes, five backgrounds. On photographs its image features are arbitrary
(useful as a small initialisation, no more), and words outside its vocabulary are spelled in letters it has never been
trained on: zero-shot scores on them mean nothing, and the tokenizer warns.
"""


def main() -> None:
    """Pretrain, measure, write the three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=28, help="length of the run, by the clock")
    parser.add_argument("--steps", type=int, default=0, help="length of the run in steps, instead of --minutes")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--muon-lr", type=float, default=0.005)
    parser.add_argument("--adam-lr", type=float, default=0.001)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw")
    parser.add_argument("--report-every", type=int, default=200)
    parser.add_argument("--out", type=Path, default=ASSETS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    words = vocabulary()
    config = model_config(vocabulary_size(words))
    model = build(config)
    step, seconds = train(args, model, config, words)
    save(args.out, model, config, words)
    model.load_state_dict({name: tensor.float() for name, tensor in portable(model).items()})  # what was shipped
    groups = {f"pretrained ({len(PRETRAINED)})": PRETRAINED, f"held out ({len(HELD_OUT)})": HELD_OUT}
    results = {name: (zero_shot(model, words, things, 3200, args.seed), 3200) for name, things in groups.items()}
    text = card(args, results, step, seconds)
    (args.out / "tiny_clip_card.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
