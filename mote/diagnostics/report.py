"""What `mote diagnose RUN` does: smoothness and stability of one network, as a table, pictures, JSON and CSV.

Files in the output folder: NAME.json (everything), NAME.csv (a line for each sample), NAME_classes and NAME_lanczos as
.svg and .png. What the quantities are: see `mote.diagnostics`; `MEANINGS` says it in a line each.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mote.config import Config
from mote.datasets.decoding.memory import give_back_memory
from mote.diagnostics.measure import ORDERS, Measure
from mote.diagnostics.quantities.gradient_noise import (
    moment,
    moment_limit,
    noise_factor,
    nonuniformity_product,
    rate_limits,
)
from mote.diagnostics.quantities.lanczos import TopEigenpair
from mote.diagnostics.quantities.sharpness import gauss_newton_product, hessian_product
from mote.diagnostics.quantities.sobolev import radius, sobolev_seminorm
from mote.diagnostics.subject import Subject, subject
from mote.files.provenance import provenance
from mote.files.writing import to_json, write_atomic
from mote.parallel.accelerator import make_accelerator, on_main
from mote.reporting.diagnose_plot import classes_plot, lanczos_plot
from mote.reporting.page import text_table

FEATURES_AT_ONCE = 32  # clips under the temporal head: more is no faster on a CPU and takes more memory than training
PARTS = ("margin", "smoothness", "gradients", "gauss_newton", "hessian", "noise")
MEANINGS = {
    "train_loss": "mean cross-entropy on these samples",
    "train_accuracy": "share of them that is right",
    "margin_median": "z_y minus the best other logit",
    "input_gradient": "root mean square of |grad_x margin|",
    "sobolev_2": "seminorm |margin|_{1,4}",
    "sobolev_3": "seminorm |margin|_{1,6}",
    "radius_median": "margin / |grad_x margin|: distance to the boundary, free of scale",
    "radius_worst_class": "smallest median of a class",
    "gradient_norm": "|gradient of the mean loss| in the parameters",
    "sample_gradient": "root mean square over samples",
    "margin_gradient": "the same of the margin",
    "noise_trace": "trace of the covariance of sample gradients",
    "gauss_newton_top": "largest eigenvalue",
    "gauss_newton_trace": "flatness: small is flat",
    "hessian_top": "largest eigenvalue",
    "hessian_trace": "by random signs",
    "nonuniformity": "s, how unequal the curvature of samples is",
}


def diagnose(
    run: Path,
    config: Config,
    out: Path,
    *,
    name: str = "diagnose",
    samples: int = 256,
    seed: int = 0,
    inputs: str | None = None,
    parameters: str | None = None,
    parts: Sequence[str] = PARTS,
    batch_size: int | None = None,
    probes: int = 8,
    tolerance: float = 1e-2,
    max_products: int = 60,
) -> dict[str, Any]:
    """Measure `run`, write the files, print the table; returns what NAME.json holds.

    Args:
        run: run directory.
        config: its configuration; `data.train` is the list that samples are drawn from.
        out, name: folder and stem of the files.
        samples, seed: how many, and of every random draw.
        inputs, parameters: see `diagnose_subject.subject`.
        parts: among `PARTS`; "noise" brings what it needs.
        batch_size: samples that go through the network at once; None: 32 features, or `evaluation.batch_size` pixels.
        probes: >= 2, of traces.
        tolerance, max_products: of Lanczos.

    Raises:
        ValueError, OSError: what does not fit; nothing is written then.
    """
    if not parts or not set(parts) <= set(PARTS):
        raise ValueError(f"--quantities {','.join(parts)}: choose from {','.join(PARTS)}")
    if probes < 2 or max_products < 1 or not tolerance > 0 or (batch_size is not None and batch_size < 1):
        raise ValueError("expected --probes >= 2, --max-products >= 1, --tolerance > 0 and --batch-size >= 1")
    accelerator = make_accelerator("fp32", cpu=config.run.cpu)
    of = subject(run, config, accelerator, samples=samples, seed=seed, inputs=inputs, parameters=parameters)
    size = batch_size or (FEATURES_AT_ONCE if of.kind == "features" else config.evaluation.batch_size)
    lanczos = {"tolerance": tolerance, "max_products": max_products, "basis": 10}
    measure = Measure(of, accelerator, batch_size=size, seed=seed, probes=probes, lanczos=lanczos)
    wanted = {*parts, *(("gradients", "gauss_newton") if "noise" in parts else ())}
    result, rows, spectra = measure_parts(measure, wanted, config)
    settings = {"samples": of.total, "listed": of.listed, "inputs": of.kind, "parameters": len(measure.problem.theta)}
    settings |= {"names": of.names, "batch_size": size, "probes": probes, **lanczos, "run": str(run)}
    document = {"settings": settings, "classes": of.classes, **result}
    document["provenance"] = provenance(config=config.model_dump(), hashes=of.hashes, seed=seed)
    label = measure.whole(of.label)
    document["per_class"] = _per_class(of, label, rows)
    if "radius_median" in result["quantities"]:
        result["quantities"]["radius_worst_class"] = min(row["radius"] for row in document["per_class"])
    on_main(accelerator, lambda: _write(out, name, document, rows, label, spectra))
    if accelerator.is_main_process:
        print(f"{run}: {of.total} of {of.listed} samples, {of.kind}, {len(measure.problem.theta)} parameters")
        print(text_table(_table(document)))
        for line in _remarks(document):
            print(f"  {line}")
        print(out / f"{name}.json")
    return document


def measure_parts(
    measure: Measure, wanted: set[str], config: Config
) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, TopEigenpair]]:
    """(the numbers, what is known of every sample, the Lanczos runs) of those of `PARTS` that are wanted."""
    give_back_memory()
    values: dict[str, Any] = {}
    result: dict[str, Any] = {"quantities": values}
    spectra: dict[str, TopEigenpair] = {}
    rows = measure.margins()  # the loss is always reported: nothing can be compared without it
    values |= {"train_loss": rows["loss"].mean().item(), "train_accuracy": rows["correct"].mean().item()}
    if "margin" in wanted:
        values |= {"margin_median": rows["margin"].median().item(), "radius_median": rows["radius"].median().item()}
        values["input_gradient"] = sobolev_seminorm(rows["powers"][:, 0], 1)
        values |= {f"sobolev_{k}": sobolev_seminorm(rows["powers"][:, k - 1], k) for k in ORDERS[1:]}
    if "smoothness" in wanted:
        result["smoothness"] = measure.sides()
    samples: dict[str, Tensor | None] = {}
    if "gradients" in wanted:
        samples = measure.samples()
        values |= _gradient_values(measure, samples)
    if "gauss_newton" in wanted:
        spectra["gauss_newton"] = measure.top("gauss_newton", gauss_newton_product)
        values["gauss_newton_top"] = spectra["gauss_newton"].value
    if "hessian" in wanted:
        spectra["hessian"] = measure.top("hessian", hessian_product)
        trace, error = measure.hessian_trace()
        values |= {"hessian_top": spectra["hessian"].value, "hessian_trace": trace, "hessian_trace_error": error}
        values["hessian_lowest_seen"] = spectra["hessian"].lowest
    if "noise" in wanted:
        spectra["nonuniformity"] = measure.top("nonuniformity", nonuniformity_product)
        values["nonuniformity"] = max(spectra["nonuniformity"].value, 0.0) ** 0.5
        result["stability"] = _stability(measure, spectra["gauss_newton"], samples, config)
    result["lanczos"] = {name: _spectrum(found) for name, found in spectra.items()}
    return result, rows, spectra


def _gradient_values(measure: Measure, samples: Mapping[str, Tensor | None]) -> dict[str, Any]:
    by_loss, by_margin, sums, trace = (samples[name] for name in ("loss", "margin", "margin_sums", "trace"))
    assert by_loss is not None and by_margin is not None and sums is not None and trace is not None
    mean = measure.gradient_norm()
    squared = by_loss.square().mean().item()
    values = {"gradient_norm": mean, "sample_gradient": squared**0.5, "noise_trace": max(squared - mean**2, 0.0)}
    values["margin_gradient"] = by_margin.square().mean().item() ** 0.5
    values |= {f"margin_gradient_{k}": sobolev_seminorm(sums[:, k - 1], k) for k in ORDERS[1:]}
    return values | {"gauss_newton_trace": trace.mean().item()}


def _stability(
    measure: Measure, found: TopEigenpair, samples: Mapping[str, Tensor | None], config: Config
) -> dict[str, Any]:
    """Rates that linear stability allows, and moments along the top eigenvector, against those of the run."""
    rate, size = config.optim.lr, min(config.optim.batch_size, measure.of.listed)
    trace, squares, top = samples["trace"], samples["squares"], samples["top"]
    assert trace is not None and squares is not None
    if not found.value > 0:
        return {"why": "the curvature is zero: any rate is stable"}
    along = measure.along(found.vector)
    limits = rate_limits(
        noise_factor(measure.of.listed, size),
        found.value,
        along,
        trace.mean().item(),
        found.squares,
        squares.mean().item(),
        None if top is None else top.max().item(),
    )
    moments = {str(k): {"value": moment(along, k), "limit": moment_limit(k, rate, size)} for k in ORDERS}
    necessary = {name: limit for name, limit in limits.items() if name != "sufficient" and limit is not None}
    return {
        "learning_rate": rate,
        "batch_size": size,
        "limits": limits,
        "exceeded": [name for name, limit in necessary.items() if rate > limit],
        "moments": moments,
        "note": "theory of plain SGD at a constant rate on all listed samples, estimated on those measured; for AdamW, "
        "weight decay and schedules a rate above a limit is a warning light",
    }


def _spectrum(found: TopEigenpair) -> dict[str, Any]:
    history = {"ritz": [v for v, _ in found.history], "residuals": [r for _, r in found.history]}
    return {"value": found.value, "residual": found.residual, "converged": found.converged} | history


def _per_class(of: Subject, label: Tensor, rows: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """Medians of every class that has a sample, and over its frames."""
    found = []
    for number, name in enumerate(of.classes):
        own = label == number
        if not own.any():
            continue
        row: dict[str, Any] = {"class": name, "samples": int(own.sum()), "accuracy": rows["correct"][own].mean().item()}
        row |= {key: rows[key][own].median().item() for key in ("margin", "gradient", "radius")}
        if of.frames:
            frames = rows["frames"][own]
            row["frame_gradient"] = frames.median(0).values.tolist()
            row["frame_radius"] = _frame_radius(rows["margin"][own], frames).median(0).values.tolist()
        found.append(row)
    return found


def _frame_radius(margin: Tensor, frames: Tensor) -> Tensor:
    return radius(margin[:, None].expand_as(frames), frames)


def _table(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    values = document["quantities"]
    return [
        {"quantity": name, "value": float(values[name]), "what it is": meaning}
        for name, meaning in MEANINGS.items()
        if name in values
    ]


def _remarks(document: Mapping[str, Any]) -> list[str]:
    """What the numbers need beside them."""
    lines = []
    for name, found in document["lanczos"].items():
        state = "converged" if found["converged"] else "DID NOT CONVERGE"
        share = found["residual"] / abs(found["value"]) if found["value"] else 0.0
        lines.append(f"{name}: {state} after {len(found['ritz'])} products, residual {share:.1e} of the value")
    if error := document["quantities"].get("hessian_trace_error"):
        lines.append(f"hessian_trace: standard error {error:.3g}")
    if smooth := document.get("smoothness"):
        if smooth["form"] is None:
            lines.append(f"smoothness inequality: none, {smooth['why']}")
        else:
            lines.append(
                f"smoothness inequality ({smooth['form']}): left {smooth['left']:.3g} <= right {smooth['right']:.3g}, "
                f"ratio {smooth['ratio']:.3g}, worst sample {smooth['worst_sample_ratio']:.3g}; the naive form fails "
                f"for {100 * smooth['naive_violated']:.0f} % of the samples"
            )
    if stable := document.get("stability"):
        if "why" in stable:
            return [*lines, f"stability: {stable['why']}"]
        limits = ", ".join(f"{name} {limit:.3g}" for name, limit in stable["limits"].items() if limit is not None)
        over = f"; exceeded: {', '.join(stable['exceeded'])}" if stable["exceeded"] else "; none exceeded"
        lines.append(
            f"learning rate {stable['learning_rate']:.3g}, batch {stable['batch_size']}; limits: {limits}{over}"
        )
        lines.append(stable["note"])
    return lines


def _write(
    out: Path,
    name: str,
    document: dict[str, Any],
    rows: Mapping[str, Tensor],
    label: Tensor,
    spectra: Mapping[str, TopEigenpair],
) -> None:
    text, table = to_json(document), io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    names = ("loss", "correct", "margin", "gradient", "radius")
    frames = [f"gradient_frame{t}" for t in range(rows["frames"].shape[1])]
    writer.writerow(["sample", "class", *names, *frames])
    for i in range(len(label)):
        cells = [f"{rows[key][i].item():.9g}" for key in names] + [f"{v:.9g}" for v in rows["frames"][i].tolist()]
        writer.writerow([i, document["classes"][int(label[i])], *cells])
    write_atomic(out / f"{name}.csv", table.getvalue())
    if "radius_median" in document["quantities"]:
        classes_plot(document["per_class"], out / f"{name}_classes")
    if spectra:
        lanczos_plot({key: found.history for key, found in spectra.items()}, out / f"{name}_lanczos")
    write_atomic(out / f"{name}.json", text)
