"""Pretrain tiny CLIP on generated still image-text pairs: `python tools/pretrain_tiny_clip.py`, 28 minutes, 2 cores.

Images are single frames of the synthetic world, drawn as they are needed, each new; half of
them pass through JPEG so that features survive video compression. Captions state some of what is true of the image
(colour, shape, background, place, size, lean, strength) in one of the method's 28 prompt templates and never a motion.
The objects in `HELD_OUT` are in no image and no caption: they measure whether colour and shape are understood apart.

Loss terms, all on L2-normalised features:

- `pairs`: symmetric InfoNCE over images and captions, where image i and caption j != i are a negative only if caption j
  states something untrue of image i;
- `words`: symmetric InfoNCE (scale 20) over invented phrases, an object and a word or two without an image (a motion
  word, random letters), each in two templates: texts that differ in any word differ in their feature;
- `object`: 1 - cosine of such a phrase and its object alone: the added words move the feature only a little.

The last two concern the text tower alone. Without them it learns to ignore every word that no image needs, and
"growing" and "shrinking" become one class (cosine 0.9999). Optimisers: Muon for the matrices of the transformer blocks,
AdamW for the rest.

Writes `tiny_clip.safetensors` (fp16), `tiny_clip.json` (model configuration and vocabulary) and `tiny_clip_card.md`;
the first two also now and then during the run.
"""

import argparse
import json
import math
import platform
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tiny_clip_data import TEMPLATES, Batch, Pairs, vocabulary
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader
from tqdm import tqdm

from mote.datasets.synthetic.clips import HELD_OUT, OBJECTS, PRETRAINED, render_still
from mote.metrics.accuracy import wilson_interval
from mote.models.tiny import ASSETS, TINY_MEAN, TINY_STD, TinyTokenizer, vocabulary_size


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
        low, high = wilson_interval(right, count)
        rows.append(f"| {name} | 80 | {count} | {100 * right / count:.1f} % | {100 * low:.1f} to {100 * high:.1f} % |")
    template = Path(__file__).with_name("tiny_clip_card_template.md").read_text(encoding="utf-8")
    return template.format(
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
        held_out=textwrap.fill(", ".join(HELD_OUT), 118),
        rows="\n".join(rows),
        python=platform.python_version(),
        torch=torch.__version__,
        open_clip=open_clip.__version__,
        numpy=np.__version__,
    )


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
