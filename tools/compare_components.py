"""Mixed samples and R-Drop against doing without, a few seeds each: the tables of configs/README.md.

- `signs`: LeNet on photographs of hands showing digits (configs/sign_digits.yaml), dropout 0.5 in every run.
- `world`: the synthetic world of `mote demo`. A head on cached features sees no pixels, so the mixtures are tried where
  the demo trains everything together: a plain temporal transformer whose head was trained first (once a seed, without
  mixing), then one epoch end to end with or without them. R-Drop is tried on the MoTE head over cached features, where
  its second routing costs a pass of the head only. Settings are the demo's.

Finished runs are kept, so it can be stopped and started again; `--seeds` may be given one at a time.

    python tools/compare_components.py signs --data FOLDER/LABELS.csv
    python tools/compare_components.py world
"""

import argparse
import json
import statistics
from pathlib import Path

import torch

from mote.config import load
from mote.datasets.synthetic import make_world
from mote.demo import COMMON, HEAD, HEAD_ALL
from mote.evaluation.results import versions
from mote.runs import train

MIXTURES = {"none": []} | {name: [f"mixing.methods=[{name}]"] for name in ("mixup", "cutmix", "hmix", "gmix")}
R_DROP = {"r_drop off": [], "r_drop on": ["r_drop.weight=1"]}
CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def run(out: Path, files: list[Path], overrides: list[str], seed: int) -> dict:
    """The result of a run, trained now unless it was before."""
    if not (out / "metrics.json").is_file():
        overrides = [*overrides, f"run.out={json.dumps(str(out))}", f"seed={seed}", "run.cpu=true"]
        train(load(files, overrides), resume=(out / "config.yaml").is_file())
    return json.loads((out / "metrics.json").read_text())


def signs(out: Path, data: str, seed: int) -> dict[str, dict]:
    """One run for each mixture, and one with R-Drop; without either is the baseline of both."""
    where = [f"data.train={json.dumps(data)}", f"evaluation.manifest={json.dumps(data)}"]
    methods = MIXTURES | {"r_drop on": R_DROP["r_drop on"]}
    return {
        name: run(out / f"{name}_{seed}", [CONFIGS / "sign_digits.yaml"], [*where, *more], seed)
        for name, more in methods.items()
    }


def world(out: Path, _data: str, seed: int) -> dict[str, dict]:
    """The mixtures end to end and R-Drop on the head, scored on new clips of the 72 seen classes."""
    splits = make_world(out / "world")
    files = {"data.train": splits["train"].manifest, "data.classes": splits["train"].classes}
    files |= {"evaluation.manifest": splits["closed_test"].manifest}
    common = [*COMMON, *(f"{key}={json.dumps(str(value))}" for key, value in files.items())]
    common += ["evaluation.batch_size=64", "evaluation.every=1000", "model.layers=2"]
    start = out / f"start_{seed}"
    run(start, [], [*common, *HEAD, "model.experts=1"], seed)
    stage = [*common, *HEAD_ALL, "model.experts=1", f"model.init={json.dumps(str(start))}"]
    results = {name: run(out / f"{name}_{seed}", [], [*stage, *more], seed) for name, more in MIXTURES.items()}
    head = [*common, *HEAD, "model.experts=4"]
    return results | {name: run(out / f"{name}_{seed}", [], [*head, *more], seed) for name, more in R_DROP.items()}


def table(results: dict[int, dict[str, dict]]) -> str:
    """Markdown: top-1 in % of every seed, mean and population standard deviation."""
    seeds = sorted(results)
    lines = [f"| | {' | '.join(f'seed {seed}' for seed in seeds)} | mean ± std |", "|---|" + "--:|" * (len(seeds) + 1)]
    for name in results[seeds[0]]:
        values = [100 * results[seed][name]["top1"] for seed in seeds]
        cells = " | ".join(f"{value:.1f}" for value in values)
        lines.append(f"| {name} | {cells} | {statistics.mean(values):.1f} ± {statistics.pstdev(values):.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, print the table, write `OUT/KIND/table.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("signs", "world"))
    parser.add_argument("--data", default="../shared/data/sign_digits/LABELS.csv", help="list of the photographs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/components"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    out = arguments.out / arguments.kind
    out.mkdir(parents=True, exist_ok=True)
    compare = signs if arguments.kind == "signs" else world
    results = {seed: compare(out, arguments.data, seed) for seed in arguments.seeds}
    print(table(results))
    top1 = {seed: {name: result["top1"] for name, result in row.items()} for seed, row in results.items()}
    listed = next(iter(results[arguments.seeds[0]].values()))["listed"]
    document = {"kind": arguments.kind, "top1": top1, "listed": listed, "versions": versions()}
    (out / "table.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
