"""Small networks and problems that the tests of the diagnostics share."""

import torch
from torch import nn

from mote.diagnostics.quantities.network import CROSS_ENTROPY, FlatNetwork, Problem


def mlp(inputs=5, hidden=6, classes=3, seed=0, dtype=torch.float64) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, classes)).to(dtype).eval()


def problem(module, inputs, labels, loss=CROSS_ENTROPY, names=None, size=4, **options) -> Problem:
    index = torch.arange(len(labels))
    batches = list(zip(inputs.split(size), labels.split(size), index.split(size), strict=True))
    return Problem(FlatNetwork(module, names), batches, len(labels), loss, **options)


def data(n=7, inputs=5, classes=3, seed=1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, inputs, generator=generator, dtype=dtype), torch.arange(n) % classes


class SmallViT(nn.Module):
    """Patches of 4 x 4 pixels, class token, positional embedding, one block of torch's own attention."""

    def __init__(self, size=12, patch=4, width=8, classes=3, channels=3):
        super().__init__()
        self.patch = nn.Conv2d(channels, width, patch, patch, bias=False)
        self.position = nn.Parameter(0.1 * torch.randn((size // patch) ** 2 + 1, width))
        self.token = nn.Parameter(0.1 * torch.randn(width))
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.out = nn.Linear(width, classes)

    def forward(self, images):
        x = self.patch(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), 1, -1), x], dim=1) + self.position
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.out((x + self.mlp(self.norm2(x)))[:, 0])
