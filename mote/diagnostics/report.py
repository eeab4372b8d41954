"""The verb `mote diagnose RUN`: smoothness and stability of one network, as a table, figures, JSON and CSV.

Files in the output folder: NAME.json (everything), NAME.csv (a line for each sample), NAME_classes and NAME_lanczos as
.svg and .png, NAME.html (the page). `MEANINGS` explains each quantity in a line; the formulas are in
`mote.diagnostics.quantities`.
"""

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from mote.config import Config
from mote.datasets.decoding.memory import give_back_memory
from mote.diagnostics.measure import BASIS, ORDERS, Measure
from mote.diagnostics.quantities.gradient_noise import (
    SampleGradients,
    moment,
    moment_limit,
    noise_factor,
    nonuniformity_product,
    rate_limits,
    theory_of,
)
from mote.diagnostics.quantities.lanczos import TopEigenpair
from mote.diagnostics.quantities.sharpness import gauss_newton_product, hessian_product
from mote.diagnostics.quantities.sobolev import radius, sobolev_seminorm
from mote.diagnostics.request import Request
from mote.diagnostics.subject import Subject, subject
from mote.evaluation.results import working_on
from mote.files.provenance import provenance
from mote.files.writing import replacing_together, to_json, write_atomic
from mote.parallel.accelerator import Accelerator, make_accelerator, on_main
from mote.reporting.diagnose_page import write_diagnose_page
from mote.reporting.diagnose_plot import classes_plot, lanczos_plot
from mote.reporting.page import text_table

OF_SPECTRUM = {"gauss_newton": "gauss_newton_top", "hessian": "hessian_top", "nonuniformity": "nonuniformity"}
FIGURES = ("classes", "lanczos")  # some quantities have none
FEATURES_AT_ONCE = 32  # clips under the temporal head: more is no faster on a CPU and takes more memory than training
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


@dataclass(frozen=True)
class Measured:
    """Results of a measurement.

    quantities: numbers by name, see `MEANINGS`. rows: properties of the samples, see `Measure.margins`. spectra: the
    largest eigenvalue of each operator. blocks: `smoothness` and `stability` of the result file, where asked for.
    """

    quantities: dict[str, float | None]
    rows: dict[str, Tensor]
    spectra: dict[str, TopEigenpair] = field(default_factory=dict)
    blocks: dict[str, dict[str, Any]] = field(default_factory=dict)


def diagnose(run: Path, config: Config, out: Path, request: Request) -> Mapping[str, float | None]:
    """Measure `run`, write the files, print the table.

    Args:
        run: run directory.
        config: its configuration; `data.train` is the list that samples are drawn from.
        out: folder of the files.
        request: what is measured, and how exactly.

    Returns:
        The quantities by name, see `MEANINGS`.

    Raises:
        ValueError, OSError: what does not fit; nothing is written then.
        InUseError: another process works on files of this name.
    """
    accelerator = make_accelerator("fp32", cpu=config.run.cpu)
    with working_on(accelerator, out, request.name):
        return _diagnose(run, config, out, request, accelerator)


def _diagnose(
    run: Path, config: Config, out: Path, request: Request, accelerator: Accelerator
) -> Mapping[str, float | None]:
    of = subject(run, config, accelerator, request)
    size = request.batch_size or (FEATURES_AT_ONCE if of.kind == "features" else config.evaluation.batch_size)
    measure = Measure(of, accelerator, request, size)
    found, label = measure_parts(measure, request.measured, config), measure.whole(of.label)
    parameters, per_class = len(measure.problem.theta), _per_class(of, label, found.rows)
    if "radius_median" in found.quantities:
        found.quantities["radius_worst_class"] = min(row["radius"] for row in per_class)
    document: dict[str, object] = {
        "settings": {
            **{"samples": of.total, "listed": of.listed},
            "inputs": of.kind,
            "parameters": parameters,
            "names": of.names,
            "batch_size": size,
            **{key: getattr(request, key) for key in ("probes", "tolerance", "max_products")},
            "basis": BASIS,
            "run": str(run),
        },
        "classes": of.classes,
        "quantities": found.quantities,
        **found.blocks,
        "lanczos": {name: _spectrum(pair) for name, pair in found.spectra.items()},
        "provenance": provenance(config=of.config.model_dump(), hashes=of.hashes, seed=request.seed),
        "per_class": per_class,
    }

    def write() -> None:
        histories = {OF_SPECTRUM[key]: pair.history for key, pair in found.spectra.items()}
        drawn = [f"{request.name}_{figure}{end}" for figure in FIGURES for end in (".svg", ".png")]
        with replacing_together(out, gone=drawn) as stage:
            write_atomic(stage / f"{request.name}.csv", _csv(of.classes, label, found.rows))
            figures = {}
            if "radius_median" in found.quantities:
                figures["classes"], _ = classes_plot(per_class, stage / f"{request.name}_classes")
            if histories:
                known = _known(found.quantities)
                figures["lanczos"], _ = lanczos_plot(histories, known, stage / f"{request.name}_lanczos")
            page, table = stage / f"{request.name}.html", _table(found.quantities)
            write_diagnose_page(page, document, table, _remarks(found), figures)
            write_atomic(stage / f"{request.name}.json", to_json(document))

    on_main(accelerator, write)
    if accelerator.is_main_process:
        print(f"{run}: {of.total} of {of.listed} samples, {of.kind}, {parameters} parameters")
        print(text_table(_table(found.quantities)))
        for line in _remarks(found):
            print(f"  {line}")
        print(f"{out / request.name}.json, .html")
    return found.quantities


def measure_parts(measure: Measure, wanted: Collection[str], config: Config) -> Measured:
    """Measure `wanted`, among `PARTS`; those that "noise" needs must be among them, see `Request.measured`."""
    give_back_memory()
    rows = measure.margins()  # the loss is always reported: nothing can be compared without it
    found = Measured({"train_loss": rows["loss"].mean().item(), "train_accuracy": rows["correct"].mean().item()}, rows)
    values, spectra = found.quantities, found.spectra
    if "margin" in wanted:
        values |= {"margin_median": rows["margin"].median().item(), "radius_median": rows["radius"].median().item()}
        values["input_gradient"] = sobolev_seminorm(rows["powers"][:, 0], 1)
        values |= {f"sobolev_{k}": sobolev_seminorm(rows["powers"][:, k - 1], k) for k in ORDERS[1:]}
    if "smoothness" in wanted:
        found.blocks["smoothness"] = measure.sides()
    samples = measure.samples() if "gradients" in wanted else None
    if samples is not None:
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
        assert samples is not None
        spectra["nonuniformity"] = measure.top("nonuniformity", nonuniformity_product)
        values["nonuniformity"] = max(spectra["nonuniformity"].value, 0.0) ** 0.5
        found.blocks["stability"] = _stability(measure, spectra["gauss_newton"], samples, config)
    return found


def _gradient_values(measure: Measure, samples: SampleGradients) -> dict[str, float]:
    mean = measure.gradient_norm()
    squared = samples.loss.square().mean().item()
    values = {"gradient_norm": mean, "sample_gradient": squared**0.5, "noise_trace": max(squared - mean**2, 0.0)}
    values["margin_gradient"] = samples.margin.square().mean().item() ** 0.5
    values |= {f"margin_gradient_{k}": sobolev_seminorm(samples.margin_sums[:, k - 1], k) for k in ORDERS[1:]}
    return values | {"gauss_newton_trace": samples.trace.mean().item()}


def _stability(measure: Measure, found: TopEigenpair, samples: SampleGradients, config: Config) -> dict[str, Any]:
    """Rates that linear stability allows, and moments along the top eigenvector, against those of the run."""
    optim, method = config.optim, config.optim.method
    rate, size = optim.lr, min(optim.batch_size, measure.of.listed)
    momentum = optim.momentum if method == "sgd" else 0.0
    if not found.value > 0:
        return {"why": "the curvature is zero: any rate is stable"}
    along = measure.along(found.vector)
    limits = rate_limits(
        noise_factor(measure.of.listed, size),
        found.value,
        along,
        samples.trace.mean().item(),
        found.squares,
        samples.squares.mean().item(),
        None if samples.top is None else samples.top.max().item(),
        momentum,
    )
    moments = {str(k): {"value": moment(along, k), "limit": moment_limit(k, rate, size)} for k in ORDERS}
    necessary = {name: limit for name, limit in limits.items() if name != "sufficient" and limit}
    return {
        "method": method,
        "learning_rate": rate,
        "batch_size": size,
        "limits": limits,
        "exceeded": [name for name, limit in necessary.items() if rate > limit],
        "moments": {} if momentum else moments,
        "note": theory_of(method, rate, momentum, optim.betas),
    }


def _spectrum(found: TopEigenpair) -> dict[str, object]:
    ritz, residuals = ([point[i] for point in found.history] for i in (0, 1))
    known = {"value": found.value, "residual": found.residual, "converged": found.converged}
    return {**known, "ritz": ritz, "residuals": residuals}


def _per_class(of: Subject, label: Tensor, rows: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """A row for every class that has a sample."""
    found: list[dict[str, Any]] = []
    for number, name in enumerate(of.classes):
        own = label == number
        if not own.any():
            continue
        row: dict[str, Any] = {"class": name, "samples": int(own.sum()), "accuracy": rows["correct"][own].mean().item()}
        row |= {key: rows[key][own].median().item() for key in ("margin", "gradient", "radius")}
        if of.frames:
            frames = rows["frames"][own]
            row["frame_gradient"] = frames.median(0).values.tolist()
            row["frame_radius"] = (
                radius(rows["margin"][own][:, None].expand_as(frames), frames).median(0).values.tolist()
            )
        found.append(row)
    return found


def _known(quantities: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in quantities.items() if value is not None}


def _table(quantities: Mapping[str, float | None]) -> list[dict[str, object]]:
    known = [(name, text) for name, text in MEANINGS.items() if name in quantities]
    return [{"quantity": name, "value": quantities[name], "what it is": text} for name, text in known]


def _remarks(found: Measured) -> list[str]:
    """Lines for below the table: convergence, errors, and what the inequality and the learning rate come to."""
    lines = []
    for name, pair in found.spectra.items():
        state = "converged" if pair.converged else "DID NOT CONVERGE"
        share = pair.residual / abs(pair.value) if pair.value else 0.0
        lines.append(f"{name}: {state} after {len(pair.history)} products, residual {share:.1e} of the value")
    if error := found.quantities.get("hessian_trace_error"):
        lines.append(f"hessian_trace: standard error {error:.3g}")
    if smooth := found.blocks.get("smoothness"):
        if smooth["form"] is None:
            lines.append(f"smoothness inequality: none, {smooth['why']}")
        else:
            lines.append(
                f"smoothness inequality ({smooth['form']}): left {smooth['left']:.3g} <= right {smooth['right']:.3g}, "
                f"ratio {smooth['ratio']:.3g}, worst sample {smooth['worst_sample_ratio']:.3g}; the naive form fails "
                f"for {100 * smooth['naive_violated']:.0f} % of the samples"
            )
    if stable := found.blocks.get("stability"):
        if "why" in stable:
            return [*lines, f"stability: {stable['why']}"]
        limits = ", ".join(f"{name} {limit:.3g}" for name, limit in stable["limits"].items() if limit is not None)
        over = f"; exceeded: {', '.join(stable['exceeded'])}" if stable["exceeded"] else "; none exceeded"
        lines.append(
            f"learning rate {stable['learning_rate']:.3g}, batch {stable['batch_size']}; limits: {limits}{over}"
        )
        lines.append(stable["note"])
    return lines


def _csv(classes: Sequence[str], label: Tensor, rows: Mapping[str, Tensor]) -> str:
    """A line for each sample."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    names = ("loss", "correct", "margin", "gradient", "radius")
    frames = [f"gradient_frame{t}" for t in range(rows["frames"].shape[1])]
    writer.writerow(["sample", "class", *names, *frames])
    for i in range(len(label)):
        cells = [f"{rows[key][i].item():.9g}" for key in names] + [f"{v:.9g}" for v in rows["frames"][i].tolist()]
        writer.writerow([i, classes[int(label[i])], *cells])
    return table.getvalue()
