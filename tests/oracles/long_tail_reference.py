"""Long-tailed losses and MEK from their formulas, one sample and one class at a time, in Python floats."""

from math import exp, log


def softmax(row: list[float]) -> list[float]:
    top = max(row)
    parts = [exp(z - top) for z in row]
    return [part / sum(parts) for part in parts]


def ce(row: list[float], label: int) -> float:
    return -log(softmax(row)[label])


def mean(values) -> float:
    values = list(values)
    return sum(values) / len(values)


def loss(
    name: str,
    logits: list[list[float]],
    labels: list[int],
    counts: list[int],
    epsilon: float = 0.1,
    gamma: float = 2.0,
    beta: float = 0.9999,
    tau: float = 1.0,
) -> float:
    """The loss `name`; the settings are those of the papers."""
    k, total = len(counts), sum(counts)
    values = []
    for row, y in zip(logits, labels, strict=True):
        if name == "ce":
            value = ce(row, y)
        elif name == "label_smoothing":
            p = softmax(row)
            value = -sum((1 - epsilon if c == y else epsilon / (k - 1)) * log(p[c]) for c in range(k))
        elif name == "weighted_ce":
            value = total / (k * counts[y]) * ce(row, y)
        elif name == "focal":
            value = (1 - softmax(row)[y]) ** gamma * ce(row, y)
        elif name == "class_balanced":
            raw = [(1 - beta) / (1 - beta**n) for n in counts]
            value = raw[y] * k / sum(raw) * ce(row, y)
        elif name == "ldam":
            largest = max(n ** (-1 / 4) for n in counts)
            cosines = [z / 30 for z in row]
            cosines[y] -= 0.5 * counts[y] ** (-1 / 4) / largest
            value = ce([30 * cosine for cosine in cosines], y)
        elif name == "logit_adjustment":
            value = ce([row[c] + tau * log(counts[c] / total) for c in range(k)], y)
        elif name == "balanced_softmax":
            value = -log(counts[y] * exp(row[y]) / sum(counts[c] * exp(row[c]) for c in range(k)))
        else:
            raise KeyError(name)
        values.append(value)
    return mean(values)


def smooth_label(y: int, weight: list[float], epsilon: float) -> list[float]:
    rest = sum(w for c, w in enumerate(weight) if c != y)
    return [1 - epsilon if c == y else epsilon * w / rest for c, w in enumerate(weight)]


def cam(features, head) -> list:
    """Maps [c][h][w] of features [d][h][w] and head weights [c][d]."""
    height, width = len(features[0]), len(features[0][0])
    return [
        [[sum(row[d] * features[d][h][w] for d in range(len(row))) for w in range(width)] for h in range(height)]
        for row in head
    ]


def consistency(maps, maps_flip, weight: list[float], lam: float) -> float:
    """lam * mean_i sum_c w_c l_i[c] of maps [i][c][h][w], with the published (not normalised) lambda."""
    total = 0.0
    for one, other in zip(maps, maps_flip, strict=True):
        for c, w_c in enumerate(weight):
            height, width = len(one[c]), len(one[c][0])
            squares = [(one[c][h][w] - other[c][h][width - 1 - w]) ** 2 for h in range(height) for w in range(width)]
            total += w_c * mean(squares)
    return lam * total / len(maps)
