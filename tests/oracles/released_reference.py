"""Oracle for the authors' test scripts: one video, one view, one frame at a time, in float64, from their description.

A view takes a frame of each of T equal parts of the video; several views start at floored, evenly spaced offsets,
which are negative in videos shorter than T frames and then count from the end. decord hands out the frames one by one.
Of frames whose short side is the size of the network, three squares lie at 0, 2 and 4 whole quarters of what is left.
Visual tower and logit scale are 0.99 of the tuned ones and 0.01 of the original CLIP's. Each view is gated by the
nearest five classes; its cosines with the class features, unscaled, go through a softmax, the views are averaged, and
the mean goes through a softmax again.
"""

import numpy as np
from oracles import mote_reference as model


def frame_numbers(length, clips, frames=8):
    """The frames of each view in a video of `length` frames."""
    tick = length / float(frames)
    views = []
    for start in np.linspace(0, tick - 1, num=clips, dtype=int).tolist():
        view = []
        for part in range(frames):
            view.append(int(start + tick * part) % length)  # int() cuts towards 0
        views.append(view)
    return views


def squares(frame, size, crops):
    """The squares (3, size, size) that are cut from a frame (H, W, 3) whose short side is `size`."""
    height, width = frame.shape[:2]
    down, right = (height - size) // 4, (width - size) // 4
    corners = [(2 * down, 0), (2 * down, 4 * right), (2 * down, 2 * right)]
    if crops == 1:
        corners = [(round((height - size) / 2), round((width - size) / 2))]
    return [frame[top : top + size, left : left + size].transpose(2, 0, 1) for top, left in corners]


def views(path, clips, crops, size):
    """Clips (8, 3, size, size) of a video file: every crop of every clip."""
    import decord

    video = decord.VideoReader(str(path), num_threads=1)
    found = []
    for numbers in frame_numbers(len(video), clips):
        cut = [squares(video[n].asnumpy(), size, crops) for n in numbers]
        for crop in range(crops):
            found.append(np.stack([row[crop] for row in cut]).astype(float))
    return found


def class_features(encode, names, templates):
    """Class features (K, D) from `encode`, which gives the features (n, D) of n texts."""
    rows = []
    for name in names:
        texts = encode([template.replace("{}", name) for template in templates])
        rows.append(model.unit(np.mean([model.unit(text) for text in texts], axis=0)))
    return np.stack(rows)


def mixed(checkpoint, original, alpha=0.99):
    """Visual tower of the checkpoint with that of the original CLIP, which has the same names."""
    tuned, start = model.arrays(checkpoint["model_state_dict"]), model.arrays(original)
    return {name: alpha * tensor + (1 - alpha) * start[name] for name, tensor in tuned.items()}


def probabilities(checkpoint, original, clips, text, alpha=0.99):
    """Probabilities (K,) of one video from its views."""
    tower, head = mixed(checkpoint, original, alpha), model.arrays(checkpoint["fusion_model_state_dict"])
    total = np.zeros(len(text))
    for clip in clips:
        features = np.stack([model.vit(tower, frame) for frame in clip])
        rho = model.gate(features, text, head["spe_cls_feature"])
        pooled = model.unit((features + rho * model.temporal(head, features)).mean(axis=0))
        total += model.softmax(np.array([pooled @ row for row in text])) / len(clips)
    return model.softmax(total)


def ranking(values, close=1e-12):
    """Classes, best first; of classes alike up to rounding the first in the list comes first."""
    left, order = list(range(len(values))), []
    while left:
        best = max(values[k] for k in left)
        order.append(next(k for k in left if values[k] > best - close))
        left.remove(order[-1])
    return order
