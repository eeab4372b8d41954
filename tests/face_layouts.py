"""Look-alikes of every expression dataset, small: label files as published; images and clips hold a number.

Each maker fills `root/L` (labels) and, where the layout keeps them apart, `root/F` (images or clips), and returns the
arguments of `prepare_faces`. No two files of a dataset are alike.
"""

from pathlib import Path

import numpy as np

EMOTIONS = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
VOTED = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")


def write(path: Path, lines: list[str], end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())


def image(path: Path, number: int) -> None:
    """A file that holds `number`: equal numbers give equal content. Nothing decodes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(f"image {number}".encode())


def rafdb(root: Path) -> dict:
    """Per class n: 10 n training images and 2 test images, aligned, in the official folders."""
    lines, number = [], 0
    for label in range(1, 8):
        for part, digits, count in (("train", 5, 10 * label), ("test", 4, 2)):
            for _ in range(count):
                number += 1
                name = f"{part}_{number:0{digits}d}"
                lines.append(f"{name}.jpg {label}")
                image(root / "F" / "aligned" / f"{name}_aligned.jpg", number)
    write(root / "L" / "EmoLabel" / "list_patition_label.txt", lines)
    return {"layout": "rafdb", "files": root / "F" / "aligned"}


def rafdb_folders(root: Path) -> dict:
    """The copy in which the folders are the numbers."""
    for label in range(1, 8):
        for part, count in (("train", 3), ("test", 1)):
            for n in range(count):
                image(root / "L" / part / str(label) / f"{part}_{label}{n}_aligned.jpg", 10 * label + n + 100 * count)
    return {"layout": "rafdb"}


def pixels(number: int) -> str:
    return " ".join(str(value) for value in [number % 256, *[(number + n) % 256 for n in range(2303)]])


def fer2013(root: Path) -> dict:
    """Four rows of every class and part, in a .csv file."""
    lines, parts = [], ("Training", "PublicTest", "PrivateTest")
    for n, (part, label) in enumerate((part, label) for part in parts for label in range(7) for _ in range(4)):
        lines.append(f"{label},{pixels(n)},{part}")
    write(root / "L" / "fer2013.csv", ["emotion,pixels,Usage", *lines])
    return {"layout": "fer2013"}


def fer2013_folders(root: Path) -> dict:
    """The copy with class folders, without a validation part."""
    for label, name in enumerate(("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")):
        for part, count in (("train", 4), ("test", 2)):
            for n in range(count):
                image(root / "L" / part / name / f"{part}{label}{n}.jpg", 10 * label + n + 100 * count)
    return {"layout": "fer2013"}


FER_VOTES = [  # votes in the order of VOTED; what argmax, emotions, unique and majority make of them
    ([0, 9, 0, 0, 0, 0, 0, 0, 1, 0], "happiness", "happiness", "happiness", "happiness"),
    ([5, 0, 0, 5, 0, 0, 0, 0, 0, 0], "neutral", "neutral", None, None),
    ([4, 0, 0, 3, 0, 0, 3, 0, 0, 0], "neutral", "neutral", "neutral", None),
    ([0, 0, 0, 0, 2, 0, 1, 0, 7, 0], None, "anger", None, None),
    ([0, 0, 1, 0, 0, 0, 0, 0, 0, 9], None, None, None, None),
    ([0, 0, 0, 0, 0, 0, 0, 6, 1, 3], "contempt", "contempt", "contempt", "contempt"),
    ([1, 1, 1, 1, 1, 0, 4, 0, 1, 0], "fear", "fear", "fear", "fear"),  # single votes are dropped by majority
    ([0, 0, 0, 0, 0, 0, 0, 0, 10, 0], None, None, None, None),
]


def ferplus(root: Path) -> dict:
    """Every row of FER_VOTES in every part, two more of a training image, and one row without a name."""
    rows, faces = [], []
    for part in ("Training", "PublicTest", "PrivateTest"):
        for votes, *_ in FER_VOTES:
            rows.append(f"{part},fer{len(rows):07d}.png,{','.join(map(str, votes))}")
            faces.append(f"0,{pixels(len(faces))},{part}")
    rows.append(f"PrivateTest,,{','.join(map(str, FER_VOTES[0][0]))}")
    faces.append(f"0,{pixels(200)},PrivateTest")
    write(root / "L" / "fer2013new.csv", [f"Usage,Image name,{','.join(VOTED)}", *rows], "\r\n")
    write(root / "L" / "fer2013.csv", ["emotion,pixels,Usage", *faces])
    return {"layout": "ferplus"}


def affectnet(root: Path) -> dict:
    """The older release: two folders with equal file names, one header, numbers 8 to 10 among the training images."""
    header = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
    rows: dict[str, list[str]] = {"training": [header], "validation": []}
    for number, label in enumerate([*range(8), *range(8), 8, 9, 9, 10]):
        path = f"{number % 2}/{label}_{number // 8}.jpg"
        rows["training"].append(f"{path},1,2,3,4,1.0;2.0;3.0,{label},0.5,-2")
        image(root / "F" / path, number)
    for label in range(8):
        rows["validation"].append(f"v/{label}.jpg,1,2,3,4,1.0;2.0,{label},0.5,0.1")
        image(root / "F" / "v" / f"{label}.jpg", 100 + label)
    for name, lines in rows.items():
        write(root / "L" / f"{name}.csv", lines)
    return {"layout": "affectnet", "files": root / "F"}


def affectnet_npy(root: Path) -> dict:
    """The newer release: a number in an .npy file beside every image, as a string."""
    for part, count in (("train_set", 3), ("val_set", 1)):
        for label in range(8):
            for n in range(count):
                name = f"{label}{n}{count}"
                image(root / "L" / part / "images" / f"{name}.jpg", int(name))
                (root / "L" / part / "annotations").mkdir(parents=True, exist_ok=True)
                np.save(root / "L" / part / "annotations" / f"{name}_exp.npy", np.array(str(label)))
    return {"layout": "affectnet"}


def ckplus(root: Path) -> dict:
    """Eleven subjects with two labelled sequences each; one sequence has two frames, one no label."""
    for subject in range(1, 12):
        for sequence in (1, 2, 3):
            peak = 2 if subject == sequence == 1 else 5
            place = Path(f"S{subject:03d}") / f"{sequence:03d}"
            for frame in range(1, peak + 1):
                name = f"S{subject:03d}_{sequence:03d}_{frame:08d}.png"
                image(root / "F" / place / name, 100 * subject + 10 * sequence + frame)
            (root / "L" / "Emotion" / place).mkdir(parents=True)
            if sequence < 3:
                label = (subject + sequence) % 7 + 1
                file = f"S{subject:03d}_{sequence:03d}_{peak:08d}_emotion.txt"
                write(root / "L" / "Emotion" / place / file, [f"   {label}.0000000e+00"])
    return {"layout": "ckplus", "files": root / "F"}


def dfew(root: Path) -> dict:
    """Thirty-five clips, five of every class; clip n is test in fold n % 5 + 1. Odd ones are folders of frames."""
    for number in range(1, 36):
        if number % 2:
            for frame in (1, 2):
                image(root / "F" / f"{number:05d}" / f"{frame:03d}.jpg", 2 * number + frame)
        else:
            image(root / "F" / f"{number:05d}.mp4", number)
    for k in range(1, 6):
        rows: dict[str, list[str]] = {"train": [], "test": []}
        for number in range(1, 36):
            rows["test" if number % 5 + 1 == k else "train"].append(f"{number},{(number - 1) // 5 + 1}")
        for part, lines in rows.items():
            write(root / "L" / f"{part}(single-labeled)" / f"set_{k}.csv", ["video_name,label", *lines])
    return {"layout": "dfew", "files": root / "F"}


def ferv39k(root: Path) -> dict:
    """Clips of equal numbers in two scenes, 22 of each class to train and 2 to test."""
    names = ("Happy", "Sad", "Neutral", "Angry", "Surprise", "Disgust", "Fear")
    rows: dict[str, list[str]] = {"train_All": [], "test_All": []}
    for label, name in enumerate(names):
        for scene in ("Action", "Daily Life".replace(" ", "")):
            for n in range(12):
                path = f"{scene}/{name}/{n:04d}"
                rows["test_All" if n == 11 else "train_All"].append(f"{path} {name}")
                image(root / "F" / path / "1.jpg", 40 * label + 2 * n + (scene == "Action"))
    for part, lines in rows.items():
        write(root / "L" / f"{part}.csv", lines)
    return {"layout": "ferv39k", "files": root / "F"}


def mafw(root: Path) -> dict:
    """Three clips of each of eleven classes; clip n % 3 is test in folds 1 to 3, clip 0 again in 4 and 5."""
    names = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise", "contempt", "anxiety")
    names += ("helplessness", "disappointment")
    clips = [(f"{3 * label + n + 1:05d}.mp4", name, n) for label, name in enumerate(names) for n in range(3)]
    for number, (path, _, _) in enumerate(clips):
        image(root / "F" / path, number)
    for k in range(1, 6):
        tested = (k - 1) % 3
        for part in ("train", "test"):
            lines = [f"{path} {name}" for path, name, n in clips if (n == tested) == (part == "test")]
            write(root / "L" / f"set_{k}" / f"{part}.txt", lines)
    return {"layout": "mafw", "files": root / "F"}


def folders(root: Path) -> dict:
    """One's own classes, with a validation part."""
    for label, name in enumerate(("Happy", "bored", "Sadness")):
        for part, count in (("train", 4), ("valid", 1), ("test", 2)):
            for n in range(count):
                image(root / "L" / part / name / f"{n}.png", 10 * label + n + 100 * count)
    return {"layout": "folders"}


def csv(root: Path) -> dict:
    """One's own list; no column of splits for the training rows would be needed."""
    lines = ["path,label,split"]
    for label, name in enumerate(("happy", "bored")):
        for part, count in (("train", 10), ("test", 2)):
            for n in range(count):
                lines.append(f"{part}/{name}{n}.png,{name},{part}")
                image(root / "F" / part / f"{name}{n}.png", 20 * label + n + 100 * count)
    write(root / "L" / "list.csv", lines)
    return {"layout": "csv", "labels": root / "L" / "list.csv", "files": root / "F"}


MAKERS = {
    "rafdb": rafdb, "rafdb_folders": rafdb_folders, "fer2013": fer2013, "fer2013_folders": fer2013_folders,
    "ferplus": ferplus, "affectnet": affectnet, "affectnet_npy": affectnet_npy, "ckplus": ckplus, "dfew": dfew,
    "ferv39k": ferv39k, "mafw": mafw, "folders": folders, "csv": csv,
}  # fmt: skip
