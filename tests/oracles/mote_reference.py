"""Oracle for checkpoints in the published MoTE format: slow numpy loops in float64, written from the equations.

``random_checkpoint`` makes a checkpoint of any sizes; ``vit`` is the OpenAI image tower, ``temporal`` the temporal
branch with experts merged by a loop, ``gate`` temporal feature modulation, ``logits`` the whole model. States are plain
dicts of float64 arrays under the published names.
"""

import math

import numpy as np
import torch

MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
STD = np.array([0.26862954, 0.26130258, 0.27577711])


def random_checkpoint(
    generator, *, width=64, patch=8, grid=2, visual_layers=2, embed=32, layers=3, experts=4, classes=11, fusion=1.0
):
    """The pickled dict with random tensors, larger than an initialisation so that every part of the model counts."""

    def draw(*shape, scale=0.1, mean=0.0):
        return mean + scale * torch.randn(*shape, generator=generator)

    def layer(prefix, size):
        return {
            f"{prefix}.attn.in_proj_weight": draw(3 * size, size),
            f"{prefix}.attn.in_proj_bias": draw(3 * size),
            f"{prefix}.attn.out_proj.weight": draw(size, size),
            f"{prefix}.attn.out_proj.bias": draw(size),
            f"{prefix}.ln_1.weight": draw(size, mean=1.0),
            f"{prefix}.ln_1.bias": draw(size),
            f"{prefix}.ln_2.weight": draw(size, mean=1.0),
            f"{prefix}.ln_2.bias": draw(size),
        }

    def linear(prefix, rows, columns):
        return {f"{prefix}.weight": draw(rows, columns), f"{prefix}.bias": draw(rows)}

    clip = {
        "logit_scale": torch.tensor(2.5),
        "visual.class_embedding": draw(width),
        "visual.positional_embedding": draw(grid * grid + 1, width),
        "visual.proj": draw(width, embed),
        "visual.conv1.weight": draw(width, 3, patch, patch),
        "visual.ln_pre.weight": draw(width, mean=1.0),
        "visual.ln_pre.bias": draw(width),
        "visual.ln_post.weight": draw(width, mean=1.0),
        "visual.ln_post.bias": draw(width),
    }
    for n in range(visual_layers):
        prefix = f"visual.transformer.resblocks.{n}"
        clip |= layer(prefix, width)
        clip |= linear(f"{prefix}.mlp.c_fc", 4 * width, width) | linear(f"{prefix}.mlp.c_proj", width, 4 * width)
    tuned = draw(classes, embed, scale=1.0)
    head = {
        "spe_cls_feature": tuned / tuned.norm(dim=-1, keepdim=True),
        "frame_position_embeddings.weight": draw(77, embed),
    }
    for n in range(layers):
        prefix = f"transformer.resblocks.{n}"
        head |= layer(prefix, embed) | {f"{prefix}.mlp.mote_fusion_weight": fusion * draw(experts, scale=1.0)}
        for e in range(experts):
            head |= linear(f"{prefix}.mlp.fc_up.{e}", 4 * embed, embed)
            head |= linear(f"{prefix}.mlp.fc_dn.{e}", embed, 4 * embed)
    return {"epoch": 3, "model_state_dict": clip, "fusion_model_state_dict": head}


def arrays(state):
    return {name.removeprefix("module."): tensor.double().numpy() for name, tensor in state.items()}


def softmax(x):
    exponentials = np.exp(x - x.max())
    return exponentials / exponentials.sum()


def layer_norm(x, weight, bias, eps):
    rows = []
    for row in x:
        mean = row.sum() / len(row)
        variance = ((row - mean) ** 2).sum() / len(row)
        rows.append(weight * (row - mean) / math.sqrt(variance + eps) + bias)
    return np.stack(rows)


def quick_gelu(x):
    return x / (1 + np.exp(-1.702 * x))


def attention(x, state, prefix, heads):
    width = x.shape[1]
    weight, bias = state[f"{prefix}.in_proj_weight"], state[f"{prefix}.in_proj_bias"]
    q, k, v = (x @ weight[i * width : (i + 1) * width].T + bias[i * width : (i + 1) * width] for i in range(3))
    size = width // heads
    out = np.zeros_like(x)
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        for t in range(len(x)):
            scores = np.array([q[t, part] @ k[s, part] / math.sqrt(size) for s in range(len(x))])
            for s, share in enumerate(softmax(scores)):
                out[t, part] += share * v[s, part]
    return out @ state[f"{prefix}.out_proj.weight"].T + state[f"{prefix}.out_proj.bias"]


def vit(state, frame):
    """Feature (D,) of one uint8 frame (3, S, S)."""
    pixels = (frame / 255.0 - MEAN[:, None, None]) / STD[:, None, None]
    conv = state["visual.conv1.weight"]
    width, _, patch, _ = conv.shape
    tokens = [state["visual.class_embedding"]]
    for row in range(pixels.shape[1] // patch):
        for column in range(pixels.shape[2] // patch):
            window = pixels[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
            tokens.append(np.array([(kernel * window).sum() for kernel in conv]))
    x = np.stack(tokens) + state["visual.positional_embedding"]

    def norm(x, name):
        return layer_norm(x, state[f"visual.{name}.weight"], state[f"visual.{name}.bias"], 1e-5)

    x = norm(x, "ln_pre")
    n = 0
    while f"visual.transformer.resblocks.{n}.ln_1.weight" in state:
        name = f"transformer.resblocks.{n}"
        x = x + attention(norm(x, f"{name}.ln_1"), state, f"visual.{name}.attn", max(1, width // 64))
        inner = norm(x, f"{name}.ln_2")
        inner = quick_gelu(inner @ state[f"visual.{name}.mlp.c_fc.weight"].T + state[f"visual.{name}.mlp.c_fc.bias"])
        x = x + inner @ state[f"visual.{name}.mlp.c_proj.weight"].T + state[f"visual.{name}.mlp.c_proj.bias"]
        n += 1
    return norm(x, "ln_post")[0] @ state["visual.proj"]


def temporal(state, features):
    """Temporal branch (T, D) of one clip's features (T, D); experts merged by softmax of the fusion weights."""
    x = features + state["frame_position_embeddings.weight"][: len(features)]
    n = 0
    while f"transformer.resblocks.{n}.ln_1.weight" in state:
        name = f"transformer.resblocks.{n}"
        merged = {}
        for e, share in enumerate(softmax(state[f"{name}.mlp.mote_fusion_weight"])):
            for part in ("fc_up", "fc_dn"):
                for kind in ("weight", "bias"):
                    key = f"{part}.{kind}"
                    merged[key] = merged.get(key, 0) + share * state[f"{name}.mlp.{part}.{e}.{kind}"]

        def norm(x, which, name=name):
            return layer_norm(x, state[f"{name}.{which}.weight"], state[f"{name}.{which}.bias"], 1e-12)

        x = x + attention(norm(x, "ln_1"), state, f"{name}.attn", max(1, x.shape[1] // 64))
        inner = quick_gelu(norm(x, "ln_2") @ merged["fc_up.weight"].T + merged["fc_up.bias"])
        x = x + inner @ merged["fc_dn.weight"].T + merged["fc_dn.bias"]
        n += 1
    return x


def unit(x):
    return x / math.sqrt((x * x).sum())


def gate(features, text, tuned, k=5, gamma=0.05):
    """rho of one clip (eq. 11) from its frame features (T, D)."""
    video = unit(features.mean(axis=0))
    text, tuned = [unit(y) for y in text], [unit(y) for y in tuned]
    near = sorted(text, key=lambda y: -(y @ video))[:k]
    near_tuned = sorted(tuned, key=lambda y: -(y @ video))[:k]
    similarity = sum(max(t @ f for f in near_tuned) for t in near) / len(near)
    return math.exp(-(1 - similarity) / gamma)


def logits(checkpoint, frames, text, modulation):
    """Logits (B, K) of uint8 clips (B, T, 3, S, S); ``modulation`` switches temporal feature modulation on."""
    clip, head = arrays(checkpoint["model_state_dict"]), arrays(checkpoint["fusion_model_state_dict"])
    rows = []
    for video in frames:
        features = np.stack([vit(clip, frame) for frame in video])
        rho = gate(features, text, head["spe_cls_feature"]) if modulation else 1.0
        pooled = unit((features + rho * temporal(head, features)).mean(axis=0))
        rows.append([math.exp(clip["logit_scale"]) * (pooled @ y) for y in text])
    return np.array(rows)
