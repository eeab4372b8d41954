"""Every kind of page, made from small stand-in results with any number of classes and names that are hard to show."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from made_evaluation import Made, dots, make_clips, make_evaluation

from mote.datasets.synthetic.faces import EXPRESSIONS
from mote.demos.faces import METHODS as FACES_METHODS
from mote.demos.faces import _pairs, _recalls, _table
from mote.demos.faces_page import write_faces_page
from mote.demos.videos import METHODS
from mote.demos.videos_page import SPLITS, write_demo_page
from mote.metrics.compare import compare, read_result
from mote.metrics.frontier import frontier_row, with_pareto
from mote.metrics.imbalance import compare_knowledge, imbalance_summary
from mote.metrics.statistics import half_class_accuracy
from mote.metrics.zero_shot import trade_off
from mote.protocols.joining import joined, pooled_classes, rules_of
from mote.protocols.table import PROTOCOLS
from mote.reporting.autoencoder_page import Sheet, write_autoencoder_page, write_samples_page
from mote.reporting.compare_page import write_compare_page
from mote.reporting.contact_sheet import pick_clips, shown_clip
from mote.reporting.diagnose_page import write_diagnose_page, write_mixing_page, write_runs_page
from mote.reporting.diagnose_plot import classes_plot, correlation_plot, lanczos_plot
from mote.reporting.evaluation_page import write_evaluation_page
from mote.reporting.frontier_page import write_frontier_page
from mote.reporting.frontier_plot import frontier_plot
from mote.reporting.imbalance_sections import imbalance_sections, overlay_sections
from mote.reporting.mixing_plot import mixing_plot
from mote.reporting.plots import curves_plot, tradeoff_plot
from mote.reporting.protocol_page import write_protocol_page
from mote.reporting.search_page import ShownHit, write_search_page
from mote.reporting.timeline_page import ShownTimeline, link_to, strip_times, write_timeline_page

HOSTILE = (
    "<script>alert('&')</script>",
    "a_name_without_any_blank_" * 8,
    "\u062a\u0633\u0644\u0642 \u0627\u0644\u062c\u0628\u0627\u0644 \u0627\u0644\u0639\u0627\u0644\u064a\u0629",
    "\U0001f3c4\u200d\u2640\ufe0f surfing \U0001f30a",
    "\"it's\" 'quoted' &amp; <b>bold</b>",
    "\u52d5\u4f5c\u306e\u540d\u524d \u3042\u308a\u304c\u3068\u3046",
    "$x^2$ 100 % \\frac{1}{2} {{ name }}",
    "</style></title></svg><!-- -->",
)
ORIGIN = {
    "config": {"task": "video", "data": {"frames": 8}, "run": {"out": f"runs/{HOSTILE[1]}"}},
    "hashes": {"weights": "0" * 64, "classes": "a" * 64},
    "versions": {"python": "3.11.7", "torch": "2.15.0"},
    "date": "2026-11-30T12:00:00+00:00",
    "inputs": {"model": f"runs/{HOSTILE[0]}/{HOSTILE[1]}"},
}


def names(count: int) -> list[str]:
    """So many class names, the hard ones first."""
    return [*HOSTILE, *(f"ordinary class number {n}" for n in range(count))][:count]


def made(folder: Path, count: int, seed: int = 0) -> Made:
    """An evaluation over so many classes."""
    each = 6 if count < 100 else 2 if count < 500 else 1
    found = make_evaluation(folder, names(count), clips_each=each, seed=seed)
    file = folder / "made.json"
    document = json.loads(file.read_text())
    document["provenance"] |= {key: ORIGIN[key] for key in ("config", "inputs")}
    file.write_text(json.dumps(document))
    return found._replace(result=document)


def eval_page(folder: Path, count: int) -> Path:
    found = made(folder, count)
    clips = make_clips(found, 3)
    return write_evaluation_page(folder / "page" / "index.html", found.result, found.predictions, clips)


MOST_UNEQUAL = 100  # classes; the shares of all classes of each class are many numbers, and slow to write


def unequal(folder: Path, count: int, seed: int = 0) -> Made:
    """An evaluation of unequal classes."""
    found = made(folder, count, seed)
    if count > MOST_UNEQUAL:
        return found
    counts = [2 + 5 * (count - k) for k in range(count)]
    more = imbalance_summary(found.scores, found.classes, counts, found.scores.probabilities)
    result = json.loads(json.dumps({**found.result, **more}))
    (folder / "made.json").write_text(json.dumps(result))
    return found._replace(result=result)


def faces_page(folder: Path, count: int) -> Path:
    found = unequal(folder, count)
    rows = [row for row in found.predictions if row["valid"] == "1"]
    faces = [shown_clip(row, dots(3), under=["the face", row["label"], row["predicted"]]) for row in rows[:2]]
    (folder / "page").mkdir()
    unequal_parts = imbalance_sections(found.result, folder / "page") if count <= MOST_UNEQUAL else []
    extra = [*unequal_parts, *overlay_sections(faces, faces)]
    return write_evaluation_page(folder / "page" / "index.html", found.result, found.predictions, extra=extra)


def compare_page(folder: Path, count: int) -> Path:
    a, b = (unequal(folder / side, count, seed) for side, seed in (("a", 0), ("b", 1)))
    read = []
    for side in ("a", "b"):
        read.append(read_result(folder / side / "made.json"))
    report = compare(read[0].document, read[1].document, read[0].predictions, read[1].predictions)
    report["a"]["file"], report["b"]["file"] = f"runs/{HOSTILE[0]}.json", f"runs/{HOSTILE[1]}.json"
    tables = compare_knowledge(a.result, b.result) or {}
    report["extra_knowledge"] = {kind: rows[:12] for kind, rows in tables.items()}
    return write_compare_page(folder / "compare.html", report)


def frontier_rows(sets: int = 2) -> list[dict]:
    """Settings whose points crowd together, as those of a good model do."""
    rng = np.random.default_rng(0)

    def row(name: str, sweep: str, value: float | None, closed: float, zero: float) -> dict:
        part = {"top1": closed, "top1_interval": [closed - 0.02, closed + 0.02]}
        zeros = {
            f"{HOSTILE[1 + k]}": {"top1": zero + 0.01 * k, "top1_interval": [zero - 0.03, zero + 0.04]}
            for k in range(sets)
        }
        return frontier_row(name, sweep, value, part, zeros)

    rows = [row("model", "model", None, 0.91, 0.62)]
    rows += [row(f"alpha {a:g}", "alpha", a, 0.5 + 0.41 * a**0.5, 0.66 - 0.05 * a) for a in (0, 0.25, 0.5, 0.75, 0.9)]
    for g in (0, 0.25, 0.5, 0.75, 1):
        rows.append(row(f"gate {g:g}" if g else "gate off", "gate", g, 0.85 + 0.06 * g, 0.64 - 0.02 * g))
    rows.append(row("gate TFM", "gate", None, 0.908, 0.635))
    rows += [
        row(f"expert {k}", "expert", k, 0.9 + 0.004 * rng.random(), 0.6 + 0.01 * rng.random()) for k in range(1, 5)
    ]
    return with_pareto(rows)


def frontier_page(folder: Path, count: int) -> Path:
    rows = frontier_rows(2 if count < 100 else 5)
    svg, _ = frontier_plot(rows, folder / "frontier")
    return write_frontier_page(folder / "index.html", rows, svg, ORIGIN, HOSTILE[0], [HOSTILE[1], HOSTILE[2]])


def protocol_page(folder: Path, count: int) -> Path:
    """Folds, halves, or three lists."""
    name = {2: "dfew", 72: "ucf101-half"}.get(count, "ucf101-zs")
    protocol, lists = PROTOCOLS[name], {}
    departures = [] if name == "dfew" else [f"the classes of {HOSTILE[0]} compete as well", HOSTILE[1]]
    found = [made(folder / str(seed), count, seed=seed) for seed in range({"ucf101-half": 1}.get(name, 3))]
    for seed, one in enumerate(found):
        rules = {"protocol": rules_of(protocol, departures), "warnings": [HOSTILE[2]]}
        lists[f"{protocol.lists[seed].partition('.')[0]}"] = {**one.result, **rules}
    if protocol.subsets == "halves":
        scores = found[0].scores
        lists["all"]["halves"] = half_class_accuracy(scores.probabilities[:, None], scores.label, scores.valid)
    result = {"task": name, **joined(lists), "protocol": rules_of(protocol, departures)}
    origins, links = dict.fromkeys(lists, ORIGIN), {one: f"../{name}-{one}/index.html" for one in lists}
    classes = pooled_classes(lists.values())
    return write_protocol_page(folder / "index.html", result, classes, origins, links)


def images_page(folder: Path, count: int) -> Path:
    """As `mote eval` draws it for task=image: a picture for each image, no importance of frames."""
    found = made(folder, count)
    best, worst = pick_clips(found.predictions, 2)
    shown = [shown_clip(found.predictions[i], dots(1, 144, 144, seed=i), under=["seen"]) for i in best + worst]
    result = {**found.result, "items": "images"}
    page = folder / "page" / "index.html"
    return write_evaluation_page(page, result, found.predictions, shown, note="As the network saw them.")


def diagnose_page(folder: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    classes = [
        {"class": name, "samples": 4, "accuracy": float(rng.random()), "margin": 0.3, "radius": float(rng.normal(1, 1))}
        for name in names(count)
    ]
    values = {
        "train_loss": 0.123,
        "train_accuracy": 0.91,
        "radius_median": 0.7,
        "hessian_top": 12.5,
        "noise_trace": 3.1,
    }
    document = {
        "settings": {
            "samples": 256,
            "listed": 2304,
            "inputs": "features",
            "parameters": 123456,
            "run": ORIGIN["config"]["run"]["out"],
        },
        "classes": names(count),
        "quantities": values,
        "stability": {"learning_rate": 1e-4, "exceeded": ["<necessary>"], "limits": {}},
        "per_class": classes,
        "provenance": ORIGIN,
    }
    history = [(1 + 1 / i, 1 / i**2) for i in range(1, 30)]
    figures = {
        "classes": classes_plot(classes, folder / "classes")[0],
        "lanczos": lanczos_plot({"hessian_top": history}, {"hessian_top": 12.5}, folder / "lanczos")[0],
    }
    table = [{"quantity": key, "value": value, "what it is": "a number & <more>"} for key, value in values.items()]
    return write_diagnose_page(folder / "diagnose.html", document, table, ["hessian: converged"], figures)


def runs_page(folder: Path, count: int) -> Path:
    rng, runs = np.random.default_rng(0), [f"runs/{name}" for name in names(8)]
    quantities = {
        key: {"runs": runs, "values": rng.random(8).tolist(), "ranks": list(range(8)), "rho": rho, "p": 0.02}
        for key, rho in (("radius_median", 0.7), ("hessian_top", -0.9), ("noise_trace", 0.1))
    }
    document = {
        "runs": [{"run": run, "state": "matched"} for run in runs],
        "quantities": quantities,
        **{"loss": 0.2, "within": 2.0, "seed": 0, "versions": ORIGIN["versions"]},
    }
    figure, _ = correlation_plot(quantities, rng.random(8).tolist(), folder / "correlation")
    table = [
        {"": str(i), "run": run, "lr": "1e-4", "batch": "32", "training loss": 0.2} for i, run in enumerate(runs, 1)
    ]
    ranking = [{"quantity": key, "rho": "+0.7", "p": "0.02", "order": "1 2 3 4 5 6 7 8"} for key in quantities]
    return write_runs_page(folder / "compare.html", document, table, ranking, ["matched: 8 of 8 runs"], figure)


def mixing_page(folder: Path, count: int) -> Path:
    laws = {name: np.linspace(0.5, 0.2 + 0.05 * i, 32) for i, name in enumerate(("mixup", "cutmix", "hmix", "gmix"))}
    svg, _ = mixing_plot(laws, 0.33, folder / "law", "What each method ties together: 1 x 32 x 32, alpha 1, ratio 0.5")
    table = [
        {"method": name, "E[1-M]": "0.500"} | {f"a({d}/32)": f"{law[d]:.3f}" for d in (0, 2, 4, 8, 16, 24, 31)}
        for name, law in laws.items()
    ]
    return write_mixing_page(folder / "mixing_law.html", table, svg, 0.33, "1 x 32 x 32, alpha 1", 0)


def autoencoder_page(folder: Path, count: int) -> Path:
    images = torch.rand(40, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    modes = min(count, 100)
    result = {
        **{
            "task": "eval",
            "listed": 1000,
            "method": "gmae",
            "dimensions": 16,
            "modes": modes,
            "reconstruction": 0.0123,
        },
        "latent": {"batch": 100, "cdf": 1.2, "covariance": 1.4, "mean": 0.9},
        "energy": {"codes": 1000, "distance": 0.1, "null": 0.1, "p": 0.4},
        "coverage": {"used": modes, "effective": 1.5, "smallest": 0.1, "distance": 0.1},
        "agreement": {"own": 0.5, "matched": 0.8, "purity": 0.8, "nmi": 0.7},
        **{"frechet": 12.3, "frechet_reconstructions": 3.4, "frechet_midpoints": 20.0, "confident": 0.8},
        "provenance": ORIGIN,
    }
    rows = [f"mode {k}: {name}" for k, name in enumerate(names(4))]
    sheets = {kind: Sheet(images, 10, rows) for kind in ("samples", "reconstructions", "interpolations")}
    return write_autoencoder_page(folder / "index.html", result, sheets)


def samples_page(folder: Path, count: int) -> Path:
    sheet = Sheet(torch.rand(30, 3, 16, 16), 8, ["modes 0 to 1", "mode 1", "mode 1", "mode 2"])
    return write_samples_page(folder / "samples.html", sheet, HOSTILE[1], 0)


def timeline_page(folder: Path, count: int) -> Path:
    rng, own = np.random.default_rng(0), names(count)
    frames = [(moment, dots(1, seed=i)[0]) for i, moment in enumerate(strip_times(100.0))]
    segments = [(2.0 * k, 2.0 * k + 2, own[k % count] if k % 5 else None, 0.5) for k in range(50)]
    scores = rng.dirichlet(np.ones(count), 60)
    page = folder / "page.html"
    shown = ShownTimeline(
        f"{HOSTILE[1]}.mp4",
        link_to("nowhere.mp4", page),
        100.0,
        frames,
        np.linspace(1, 99, 60),
        scores,
        own,
        segments,
        0.3,
    )
    return write_timeline_page(page, shown, "How windows were scored.", {"model": HOSTILE[0], **ORIGIN})


def search_page(folder: Path, count: int) -> Path:
    frame = dots(1, 90, 160)[0]
    hits = [ShownHit(f"videos/{name}", "1.00 - 2.00 s", 0.3, frame) for name in names(8)]
    found = {
        name: [*hits[:k], ShownHit("gone.mp4", "", 0.1, None)] if k else []
        for k, name in enumerate(names(min(count, 20)))
    }
    return write_search_page(folder / "hits.html", found, {"features": HOSTILE[1], "templates": ["{}"]})


def demo_page(folder: Path, count: int) -> Path:
    folders = {name: folder / "seed0" / f"model{i}" for i, name in enumerate(METHODS)}
    found = [made(folder / "made" / str(seed), count, seed=seed).result for seed in range(2)]  # models take turns
    rows = []
    for i, (name, place) in enumerate(folders.items()):
        (place / "evaluations").mkdir(parents=True)
        for split in SPLITS:
            for end in ("", "_gated"):
                shutil.copy(folder / "made" / str(i % 2) / "made.csv", place / "evaluations" / f"{split}{end}.csv")
        zero = {split: found[i % 2] for split in SPLITS if split != "closed_test"}
        gates = ("", " + gate") if "head" in METHODS[name] else ("",)
        rows += [trade_off(f"{name}{gate}", found[i % 2], zero) for gate in gates]
    log = [{"step": s, "loss": 3 / s, "ce": 2 / s} for s in range(1, 60)]
    curves = [(curves_plot(log, folder / f"loss{i}")[0], f"loss {i}") for i in range(2)]
    facts = {"seed": 0, "seconds": 161.2, "versions": ORIGIN["versions"], "runs": {}}
    return write_demo_page(folder, rows, folders, tradeoff_plot(rows, folder / "plane")[0], curves, facts)


def faces_demo_page(folder: Path, count: int) -> Path:
    runs, of, seconds = {}, {}, 1.0
    for i, name in enumerate(FACES_METHODS):
        found = make_evaluation(folder / "made" / str(i), list(EXPRESSIONS), clips_each=8, seed=i)
        more = imbalance_summary(found.scores, found.classes, [240, 160, 90, 60, 40, 20, 12])
        of[name], runs[name] = {**found.result, **more}, folder / "seed0" / f"run{i}"
        (runs[name] / "evaluations").mkdir(parents=True)
        shutil.copy(folder / "made" / str(i) / "made.csv", runs[name] / "evaluations" / "test.csv")
    scored = [(name, seconds, part) for name, part in of.items()]
    facts = {"seed": 0, "seconds": 30.0, "versions": ORIGIN["versions"]}
    return write_faces_page(folder, of, runs, (_table(scored), _recalls(of)), _pairs(of), facts)  # type: ignore[arg-type]


KINDS: dict[str, Callable[[Path, int], Path]] = {  # those whose contents grow with the classes
    "eval": eval_page,
    "images": images_page,
    "faces": faces_page,
    "protocol": protocol_page,
    "compare": compare_page,
    "diagnose": diagnose_page,
    "frontier": frontier_page,
    "autoencoder": autoencoder_page,
    "timeline": timeline_page,
    "search": search_page,
    "demo": demo_page,
}
ALONE: dict[str, Callable[[Path, int], Path]] = {
    "faces demo": faces_demo_page,
    "runs": runs_page,
    "mixing": mixing_page,
    "samples": samples_page,
}


def make_pages(folder: Path, counts: tuple[int, ...]) -> dict[str, Path]:
    """All pages by name."""
    pages = {}
    for kind, make in {**KINDS, **ALONE}.items():
        for count in counts if kind in KINDS else counts[:1]:
            place = folder / f"{kind} {count}"
            place.mkdir(parents=True)
            pages[f"{kind} {count}"] = make(place, count)
    return pages
