"""Features of frames: each distinct frame once, whatever the device; what a key of the cache says of a tower."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mote.datasets.decoding.errors import DecodeError
from mote.inference import features
from mote.inference.features import Load, encode_once, frame_features


class Means:
    """Encodes a frame as the mean and the greatest value of its pixels, and counts the frames it is given."""

    def __init__(self, device: str):
        self.device, self.seen = SimpleNamespace(type=device), 0

    def encode(self, frames):
        self.seen += frames.flatten(0, 2).shape[0]
        pixels = frames.float().flatten(3)
        return torch.stack([pixels.mean(3), pixels.amax(3)], dim=-1)

    def for_encoding(self):
        return self


def videos(num: int) -> torch.Tensor:
    """(num, 2, 3, 3, 4, 4): two clips of three frames, the second clip of each video like the first."""
    frames = torch.randint(0, 256, (num, 1, 3, 3, 4, 4), generator=torch.Generator().manual_seed(0)).byte()
    return frames.expand(-1, 2, -1, -1, -1, -1)


@pytest.mark.parametrize("device", ["cpu", "an accelerator"])
def test_equal_frames_go_through_the_tower_once(device):
    encoder, frames = Means(device), videos(4)
    found = encode_once(encoder, frames)
    assert torch.equal(found, Means(device).encode(frames)) and encoder.seen == 4 * 3


@pytest.mark.parametrize("device", ["cpu", "an accelerator"])
def test_videos_come_in_the_order_asked_for_on_any_device(device, monkeypatch):
    encoder, frames = Means(device), videos(5)

    def loader(dataset, batch_size, *, sampler, workers, drop_last):
        assert (batch_size, workers, drop_last) == (2, 3, False)
        for part in torch.tensor(sampler).split(batch_size):
            yield {"frames": frames[part], "cause": [""] * len(part)}

    monkeypatch.setattr(features, "make_loader", loader)
    found = list(frame_features(encoder, None, [4, 0, 2], map, load=Load(2, 3)))
    assert torch.equal(torch.stack(found), Means(device).encode(frames[[4, 0, 2]]))


def tower(heads: int = 2, **more) -> nn.Module:
    """One attention layer with plain values, values of a pass, and values of its own."""
    layer = nn.MultiheadAttention(8, heads)
    for name, value in more.items():
        setattr(layer, name, value)
    return nn.Sequential(layer)


def test_a_key_of_the_cache_tells_towers_apart_by_what_they_compute():
    told = features._architecture(tower())
    assert told == features._architecture(tower().eval())
    assert told == features._architecture(tower(grad_checkpointing=True, _private=3))
    assert told == features._architecture(tower(helper=object()))  # its address differs from run to run
    assert told != features._architecture(tower(heads=4))
    assert told != features._architecture(tower(patch_dropout=0.1))


@pytest.mark.parametrize("progress", [False, True])
def test_the_bar_of_the_look_up_is_drawn_when_asked_for(progress, monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(features, "tqdm", lambda listed, **options: shown.append(options["disable"]) or listed)
    monkeypatch.setattr(features, "record_keys", lambda cache, bar, rule: ["key"])
    monkeypatch.setattr(features, "to_encode", lambda cache, keys: {})
    dataset = SimpleNamespace(records=[None], sampling="segments", difference=0, faces=False)
    cache = SimpleNamespace(read=lambda key: torch.ones(1, 2, 3).numpy())
    (found,) = frame_features(Means("cpu"), dataset, [0], map, load=Load(), cache=cache, progress=progress)
    assert found.shape == (1, 2, 3) and shown == [not progress]


def test_a_video_that_cannot_be_decoded_ends_it_unless_told_otherwise(monkeypatch):
    bad = {"frames": torch.zeros(1, 1, 1, 3, 4, 4).byte(), "cause": ["a.mp4\tcut off"]}
    monkeypatch.setattr(features, "make_loader", lambda *arguments, **options: [bad])
    dataset = SimpleNamespace(decoder="pyav")
    with pytest.raises(DecodeError, match="cut off"):
        list(frame_features(Means("cpu"), dataset, [0], map, load=Load()))
    (found,) = frame_features(Means("cpu"), dataset, [0], map, load=Load(), strict=False)
    assert isinstance(found, DecodeError)
