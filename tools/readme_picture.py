"""The animated picture of the README: clips of the demo world, and what two models say about them.

Needs a folder of `mote demo`. Clips are the first ones of the closed-set test whose class is among CLASSES; nothing is
chosen by what a model says.

    uv run python tools/readme_picture.py runs/demo --out docs/figures/demo.webp
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont

import mote
from mote.datasets.decoding.decode import read_frames
from mote.datasets.synthetic.clips import SEEN_PAIRS

CLASSES = ("green ball moving left", "red star shrinking", "purple heart turning clockwise")
MODELS = {"tiny CLIP: looks at frames one by one": "tiny", "MoTE: with a temporal head": "seed0/mote/all"}
WIDTH, HEIGHT, SIDE, SCALE = 760, 272, 224, 2
INK, SOFT, PAPER, RIGHT, WRONG = "#1b1f24", "#57606a", "#ffffff", "#12733a", "#b42318"
Answers = Mapping[str, Mapping[str, float]]


def _font(size: int, weight: str = "normal") -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(findfont(f"DejaVu Sans:weight={weight}"), size * SCALE)


def _at(*places: float) -> tuple[int, ...]:
    """Coordinates of the drawing, which is made larger than it is shown."""
    return tuple(round(SCALE * place) for place in places)


def _draw_answers(draw: ImageDraw.ImageDraw, truth: str, answers: Answers) -> None:
    """Write the class and, for each model, its three most probable names with a bar each."""
    left = 268
    draw.text(_at(left, 20), truth, INK, _font(17, "bold"))
    y = 52
    for model, scores in answers.items():
        draw.text(_at(left, y), model, SOFT, _font(12))
        y += 22
        for place, (name, probability) in enumerate(list(scores.items())[:3]):
            colour = (RIGHT if name == truth else WRONG) if place == 0 else INK
            mark = ("✓ " if name == truth else "✗ ") if place == 0 else "   "
            draw.text(_at(left, y), f"{mark}{name}", colour, _font(13, "bold" if place == 0 else "normal"))
            draw.rounded_rectangle(_at(left + 275, y + 3, left + 435, y + 14), 4, "#e6eaee")
            if round(160 * probability) > 4:
                draw.rounded_rectangle(_at(left + 275, y + 3, left + 275 + 160 * probability, y + 14), 4, colour)
            draw.text(_at(left + 443, y), f"{100 * probability:.0f} %", SOFT, _font(12))
            y += 22
        y += 12


def _card(frame: np.ndarray, truth: str, answers: Answers) -> Image.Image:
    """One frame of the picture: the frame of the clip beside what the models say about the whole clip."""
    card = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), PAPER)
    draw = ImageDraw.Draw(card)
    draw.rounded_rectangle((0, 0, WIDTH * SCALE - 1, HEIGHT * SCALE - 1), 12, PAPER, "#d0d7de", 2)
    _draw_answers(draw, truth, answers)
    card = card.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    card.paste(Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.BICUBIC), (24, (HEIGHT - SIDE) // 2))
    return card


def picture(demo: Path) -> list[Image.Image]:
    """The frames of the picture, 12 a second; each clip is shown twice."""
    lines = [line.rsplit(" ", 1) for line in (demo / "world" / "closed_test.txt").read_text().splitlines()]
    models = {name: mote.load(place if place == "tiny" else str(demo / place)) for name, place in MODELS.items()}
    cards = []
    for truth in CLASSES:
        clip = demo / "world" / next(path for path, label in lines if SEEN_PAIRS[int(label)] == truth)
        answers = {name: model.classify_video(clip, list(SEEN_PAIRS)) for name, model in models.items()}
        print(truth, {name: next(iter(scores.items())) for name, scores in answers.items()})
        frames = read_frames(clip, list(range(16)))
        cards += 2 * [_card(frame, truth, answers) for frame in frames]
    return cards


def main() -> None:
    """Write the picture and, as NAME_still.png, its first frame for those who have switched animations off."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("demo", type=Path, help="folder that mote demo wrote")
    parser.add_argument("--out", type=Path, default=Path("docs/figures/demo.webp"))
    arguments = parser.parse_args()
    first, *rest = picture(arguments.demo)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    first.save(arguments.out, save_all=True, append_images=rest, duration=83, loop=0, quality=70, method=4)
    first.save(arguments.out.with_name(f"{arguments.out.stem}_still.png"), optimize=True)
    print(f"{arguments.out}: {len(rest) + 1} frames, {arguments.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
