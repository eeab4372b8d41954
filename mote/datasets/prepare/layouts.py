"""The published layouts that `mote data prepare` reads, by name. Light to import: its help text is made of them."""

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from mote.datasets.lists.folders import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from mote.datasets.prepare.expressions import FacePlan
from mote.datasets.prepare.face_clips import dfew, ferv39k, mafw
from mote.datasets.prepare.faces import affectnet, ckplus, folders, rafdb, table
from mote.datasets.prepare.fer2013 import fer2013, ferplus
from mote.datasets.prepare.official import Classes, Plan, author_lists, hmdb51, kinetics, ssv2, ucf101

VIDEOS: dict[str, Callable[[Path, Classes | None, Collection[str] | None], Plan]] = {
    "ucf101": ucf101,
    "hmdb51": hmdb51,
    "kinetics400": partial(kinetics, num_classes=400),
    "kinetics600": partial(kinetics, num_classes=600),
    "kinetics700": partial(kinetics, num_classes=700),
    "ssv2": ssv2,
    "lists": author_lists,
}
FACES: dict[str, Callable[[Path], FacePlan]] = {
    "rafdb": rafdb,
    "fer2013": fer2013,
    "ferplus": ferplus,
    "affectnet": affectnet,
    "ckplus": ckplus,
    "dfew": dfew,
    "ferv39k": ferv39k,
    "mafw": mafw,
    "folders": partial(folders, suffixes=IMAGE_SUFFIXES | VIDEO_SUFFIXES),
    "csv": table,
}
