"""Mixed samples, R-Drop and sparsity against doing without, a few seeds each: the tables of configs/README.md.

- `signs`: LeNet on photographs of hands showing digits (configs/sign_digits.yaml), dropout 0.5 in every run.
- `world`: the synthetic world of `mote demo`. A head on cached features sees no pixels, so the mixtures are tried where
  the demo trains everything together: a plain temporal transformer whose head was trained first (once a seed, without
  mixing), then one epoch end to end with or without them. R-Drop is tried on the MoTE head over cached features, where
  its second routing costs a pass of the head only. Settings are the demo's.
- `sparsity`: the MoTE head on the features of that world, trained; trained on for as long again with group lasso on its
  hidden units or its attention heads; made compact (`mote compact`); and fine-tuned, as long once more. Beside it, as
  many epochs without a penalty. The compact head is timed against the whole one, in turn (medians). The strength of
  `--units` was chosen on the clips of another world, `--world-seed 1`.

Finished runs are kept, so it can be stopped and started again; `--seeds` may be given one at a time.

    python tools/compare_components.py signs --data FOLDER/LABELS.csv
    python tools/compare_components.py world
    python tools/compare_components.py sparsity
    python tools/compare_components.py sparsity --world-seed 1 --seeds 0 --units 0.06 0.1 --heads 0.3
"""

import argparse
import json
import statistics
from pathlib import Path

import torch

import mote
from mote.config import load
from mote.datasets.synthetic.clips import make_world
from mote.demos.videos import COMMON, HEAD, HEAD_ALL
from mote.evaluation.evaluate import evaluate
from mote.experiments.train import train
from mote.files.provenance import versions
from mote.models.sites import sites
from mote.parallel.accelerator import make_accelerator
from mote.sparsity.compacting import compact_model
from mote.sparsity.report import seconds

MIXTURES = {"none": []} | {name: [f"mixing.methods=[{name}]"] for name in ("mixup", "cutmix", "hmix", "gmix")}
R_DROP = {"r_drop off": [], "r_drop on": ["r_drop.weight=1"]}
LASSO = {"units": "temporal.*.mlp", "heads": "temporal.*.attn"}  # group -> what it lies in
BATCH = 64  # clips whose pass through the head is timed
MOTE = [*HEAD, "model.experts=4"]
CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def run(out: Path, files: list[Path], overrides: list[str], seed: int) -> dict:
    """The result of a run, trained now unless it was before."""
    if not (out / "metrics.json").is_file():
        overrides = [*overrides, f"run.out={json.dumps(str(out))}", f"seed={seed}", "run.cpu=true"]
        train(load(files, overrides), resume=(out / "config.yaml").is_file())
    return json.loads((out / "metrics.json").read_text())


def signs(out: Path, given: argparse.Namespace, seed: int) -> dict[str, dict]:
    """One run for each mixture, and one with R-Drop; without either is the baseline of both."""
    where = [f"data.train={json.dumps(given.data)}", f"evaluation.manifest={json.dumps(given.data)}"]
    methods = MIXTURES | {"r_drop on": R_DROP["r_drop on"]}
    return {
        name: run(out / f"{name}_{seed}", [CONFIGS / "sign_digits.yaml"], [*where, *more], seed)
        for name, more in methods.items()
    }


def world(out: Path, given: argparse.Namespace, seed: int) -> dict[str, dict]:
    """The mixtures end to end and R-Drop on the head, scored on new clips of the 72 seen classes."""
    common = _common(out, given.world_seed)
    start = out / f"start_{seed}"
    run(start, [], [*common, *HEAD, "model.experts=1"], seed)
    stage = [*common, *HEAD_ALL, "model.experts=1", f"model.init={json.dumps(str(start))}"]
    results = {name: run(out / f"{name}_{seed}", [], [*stage, *more], seed) for name, more in MIXTURES.items()}
    heads = {name: run(out / f"{name}_{seed}", [], [*common, *MOTE, *more], seed) for name, more in R_DROP.items()}
    return results | heads


def _common(out: Path, world_seed: int) -> list[str]:
    """Settings of all runs on the synthetic world, which is made where it is not there yet."""
    splits = make_world(out / "world", seed=world_seed)
    files = {"data.train": splits["train"].manifest, "data.classes": splits["train"].classes}
    files |= {"evaluation.manifest": splits["closed_test"].manifest}
    common = [*COMMON, *(f"{key}={json.dumps(str(value))}" for key, value in files.items())]
    return [*common, "evaluation.batch_size=64", "evaluation.every=1000", "model.layers=2"]


def sparsity(out: Path, given: argparse.Namespace, seed: int) -> dict[str, dict]:
    """A trained MoTE head, and what up to twice as many epochs more make of it with and without group lasso."""
    settings = [*_common(out, given.world_seed), *MOTE]

    def on(start: str, name: str, *more: str) -> dict:
        init = f"model.init={json.dumps(str(out / f'{start}_{seed}'))}"
        return run(out / f"{name}_{seed}", [], [*settings, init, *more], seed)

    results = {"trained": run(out / f"r_drop off_{seed}", [], settings, seed)}  # the run without of `world`
    results["trained twice as long"] = on("r_drop off", "longer")
    results["trained three times as long"] = on("longer", "longest")
    for kind, layers in LASSO.items():
        for strength in vars(given)[kind]:
            name = f"{kind} {strength:g}"
            more = [f"sparsity.groups=[{kind}]", f"sparsity.strength={strength}"]
            on("r_drop off", name, *more, f'sparsity.layers={{"{layers}": 1.0}}')
            whole, small = out / f"{name}_{seed}", out / f"{name}_compact_{seed}"
            results[f"{name}, compact"] = _compacted(whole, small)
            if small.is_dir():
                results[f"{name}, fine-tuned"] = on(f"{name}_compact", f"{name}_tuned")
    return results


def _compacted(whole: Path, small: Path) -> dict:
    """Result of the compact model of a run, and what is left of it; the run itself if nothing became zero."""
    if not (small / "compact.json").is_file():
        try:
            compact_model(str(whole), str(small))
        except ValueError as error:
            print(error)
            return json.loads((whole / "metrics.json").read_text()) | _left(whole, whole)
    if not (small / "evaluations" / "eval.json").is_file():
        evaluate(mote.load(str(small)), load([small / "config.yaml"]), make_accelerator(), small / "evaluations")
    return json.loads((small / "evaluations" / "eval.json").read_text()) | _left(whole, small)


def _left(whole: Path, small: Path) -> dict:
    """What is left of the hidden units and attention heads of the temporal head, and seconds a pass takes it."""
    models = [mote.load(str(folder)).model for folder in (whole, small)]
    left = {}
    for kind in ("units", "heads"):
        counts = [
            sum(len(site) for site in sites(model) if site.kind == kind and site.name.startswith("temporal."))
            for model in models
        ]
        left[kind] = counts[1] / counts[0]
    features = torch.randn(BATCH, 8, models[0].embed_dim, generator=torch.Generator().manual_seed(0))
    before, after = seconds(models[0], models[1], lambda model: model.head(features), repeats=101)
    return {"left": left, "seconds": before, "seconds_left": after}


COMPARISONS = {"signs": signs, "world": world, "sparsity": sparsity}


def table(results: dict[int, dict[str, dict]]) -> str:
    """Markdown: top-1 in % of every seed, mean and population standard deviation."""
    seeds = sorted(results)
    lines = [f"| | {' | '.join(f'seed {seed}' for seed in seeds)} | mean ± std |", "|---|" + "--:|" * (len(seeds) + 1)]
    for name in results[seeds[0]]:
        if any(name not in results[seed] for seed in seeds):  # nothing became zero, so nothing was fine-tuned
            continue
        values = [100 * results[seed][name]["top1"] for seed in seeds]
        cells = " | ".join(f"{value:.1f}" for value in values)
        lines.append(f"| {name} | {cells} | {statistics.mean(values):.1f} ± {statistics.pstdev(values):.1f} |")
    return "\n".join(lines)


def removal_table(results: dict[int, dict[str, dict]]) -> str:
    """Markdown: what is left of the temporal head, and the time of its pass; means over the seeds."""
    lines = ["| | hidden units left | attention heads left | head, ms dense | head, ms compact | times as fast |"]
    lines.append("|---|" + "--:|" * 5)
    for name in next(iter(results.values())):
        rows = [results[seed][name] for seed in results if "left" in results[seed].get(name, {})]
        if rows:
            units, heads = (100 * statistics.mean(row["left"][kind] for row in rows) for kind in ("units", "heads"))
            before, after = (1e3 * statistics.mean(row[key] for row in rows) for key in ("seconds", "seconds_left"))
            gain = statistics.mean(row["seconds"] / row["seconds_left"] for row in rows)
            lines.append(f"| {name} | {units:.1f} % | {heads:.1f} % | {before:.2f} | {after:.2f} | {gain:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, print the table, write `OUT/FOLDER/KIND.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=COMPARISONS)
    parser.add_argument("--data", default="../shared/data/sign_digits/LABELS.csv", help="list of the photographs")
    parser.add_argument("--world-seed", type=int, default=0, help="of the clips of the synthetic world")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--units", type=float, nargs="*", default=[0.1], help="strengths of the lasso of hidden units")
    parser.add_argument("--heads", type=float, nargs="*", default=[], help="strengths of that of attention heads")
    parser.add_argument("--out", type=Path, default=Path("runs/components"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    out = arguments.out / ("signs" if arguments.kind == "signs" else "world")
    if arguments.world_seed:
        out = out.with_name(f"world_{arguments.world_seed}")
    out.mkdir(parents=True, exist_ok=True)
    compare = COMPARISONS[arguments.kind]
    results = {seed: compare(out, arguments, seed) for seed in arguments.seeds}
    print(table(results))
    if arguments.kind == "sparsity":
        print(f"\n{removal_table(results)}")
    kept = ("top1", "listed", "left", "seconds", "seconds_left")
    rows = {
        seed: {name: {key: result[key] for key in kept if key in result} for name, result in row.items()}
        for seed, row in results.items()
    }
    document = {"kind": arguments.kind, "world_seed": arguments.world_seed, "rows": rows, "versions": versions()}
    (out / f"{arguments.kind}.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
