"""The latent terms of the Gaussian-mixture autoencoder, MMD and the energy distance, one number at a time."""

from math import sqrt

from scipy.stats import norm


def mixture_cdf(value: float, coordinate: int, centres, std: float, priors) -> float:
    return sum(p * norm.cdf(value, loc=c[coordinate], scale=std) for p, c in zip(priors, centres, strict=True))


def cdf_distance(codes, centres, std: float, priors) -> float:
    """The mean over coordinates and order statistics of (F_j - i/N)^2."""
    num, dim, total = len(codes), len(codes[0]), 0.0
    for j in range(dim):
        for i, value in enumerate(sorted(row[j] for row in codes), start=1):
            total += (mixture_cdf(value, j, centres, std, priors) - i / num) ** 2
    return total / (num * dim)


def covariance(codes) -> list[list[float]]:
    num, dim = len(codes), len(codes[0])
    mean = [sum(row[j] for row in codes) / num for j in range(dim)]
    return [
        [sum((row[a] - mean[a]) * (row[b] - mean[b]) for row in codes) / num for b in range(dim)] for a in range(dim)
    ]


def mixture_covariance(centres, std: float, priors) -> list[list[float]]:
    dim = len(centres[0])
    mean = [sum(p * c[j] for p, c in zip(priors, centres, strict=True)) for j in range(dim)]
    return [
        [
            (std**2 if a == b else 0.0)
            + sum(p * (c[a] - mean[a]) * (c[b] - mean[b]) for p, c in zip(priors, centres, strict=True))
            for b in range(dim)
        ]
        for a in range(dim)
    ]


def covariance_distance(codes, centres, std: float, priors) -> float:
    got, wanted, dim = covariance(codes), mixture_covariance(centres, std, priors), len(codes[0])
    return sum((got[a][b] - wanted[a][b]) ** 2 for a in range(dim) for b in range(dim)) / dim**2


def squared_distance(x, y) -> float:
    return sum((a - b) ** 2 for a, b in zip(x, y, strict=True))


def mmd(codes, prior, distance: float) -> float:
    def kernel(x, y) -> float:
        return sum(s * distance / (s * distance + squared_distance(x, y)) for s in (0.1, 0.2, 0.5, 1, 2, 5, 10))

    num, total = len(codes), 0.0
    for i in range(num):
        for j in range(num):
            if i != j:
                total += (kernel(codes[i], codes[j]) + kernel(prior[i], prior[j])) / (num * (num - 1))
            total -= 2 * kernel(codes[i], prior[j]) / num**2
    return total


def energy_distance(first, second) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'|, with the pairs of a sample with itself."""

    def mean_distance(a, b) -> float:
        return sum(sqrt(squared_distance(x, y)) for x in a for y in b) / (len(a) * len(b))

    return 2 * mean_distance(first, second) - mean_distance(first, first) - mean_distance(second, second)
