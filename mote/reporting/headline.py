"""One-line summaries of results: of an evaluation, of an autoencoder, of a protocol."""

import sys
from collections.abc import Mapping

from mote.reporting.page import percent


def protocol_headline(result: Mapping) -> str:
    """One line: the protocol, its numbers in percent, and how many videos were scored."""
    numbers = []
    for key, name in measures(result).items():
        deviation = result[f"{key}_std"]
        numbers.append(f"{name} {percent(result[key])}{'' if deviation is None else f' +- {percent(deviation)}'}")
    counts = f"{result['scored']} of {result['listed']} videos scored"
    obeyed = "" if not result["protocol"]["departures"] else ", with departures"
    return f"{result['protocol']['identifier']}{obeyed}: {', '.join(numbers)} over {result['over']} ({counts})"


def measures(result: Mapping) -> dict[str, str]:
    """The numbers of a protocol's result: key -> what it is called."""
    names = {"top1": "top-1", "top5": f"top-{_best(result)}", "mean_class_recall": "mean class recall"}
    if names["top5"] == names["top1"]:
        del names["top5"]
    if result["protocol"]["fields"]["subsets"] == "folds":
        names = {"top1": "WAR", "mean_class_recall": "UAR"}
    names |= {"top1_without_tuned_names": "top-1 without class names of tuning", "fell_on_other": "on added classes"}
    return {key: name for key, name in names.items() if key in result}


def headline(summary: Mapping) -> str:
    """One line of a result: accuracies in percent with 95 % intervals, how many were scored; else its plain numbers."""
    if "reconstruction" in summary:
        return _latent_headline(summary)
    if "top1_interval" not in summary:  # of a kind of task that is not known here
        return ", ".join(f"{name} {value:.5g}" for name, value in summary.items() if isinstance(value, int | float))
    accuracies = f"top-1 {percent(summary['top1'], summary['top1_interval'])}"
    if summary["top5_k"] > 1:
        accuracies += f", top-{summary['top5_k']} {percent(summary['top5'], summary['top5_interval'])}"
    recall = percent(summary["mean_class_recall"], summary.get("mean_class_recall_interval"))
    items = summary.get("items", "videos")
    counts = f"{summary['scored']} of {summary['listed']} {items} scored, {summary['num_classes']} classes"
    return f"{accuracies}, mean class recall {recall} ({counts})"


def _best(result: Mapping) -> str:
    """Of how many best classes the `top5` of a protocol's result is: 5, or all where there are fewer."""
    counts = set()
    for part in result.get("lists", {}).values():
        halves = part.get("halves", {}).get("per_subset", ())
        counts |= {one["top5_k"] for one in (halves or (part,)) if "top5_k" in one}
    return "/".join(map(str, sorted(counts))) or "5"


def report(summary: Mapping) -> None:
    """Print the parts of a result that its headline leaves out, and its warnings (on stderr)."""
    if known := summary.get("overlap"):
        named = len(known["excluded_classes"])
        line = f"{named} of {summary['num_classes']} class names occur among the classes of tuning"
        if named and (kept := known["without"]):
            line += f"; without their videos: top-1 {percent(kept['top1'], kept['top1_interval'])}"
            line += f" ({kept['listed']} videos)"
        print(f"  {line}")
    if union := summary.get("union"):
        share = percent(union["fell_on_other"], union["fell_on_other_interval"])
        print(f"  {union['num_other']} classes added: {share} % of the predictions fell on them")
    for line in summary.get("warnings", ()):
        print(f"mote: warning: {line}", file=sys.stderr)


def _latent_headline(summary: Mapping) -> str:
    parts = [f"reconstruction {summary['reconstruction']:.5f}"]
    if "frechet" in summary:
        parts.append(f"Frechet distance {summary['frechet']:.2f} (features of {summary['judge']['net']})")
    parts.append(", ".join(f"{name} {summary['latent'][name]:.2f}" for name in ("cdf", "covariance", "mean")))
    if "coverage" in summary:
        parts.append(f"{summary['coverage']['used']} of {summary['modes']} modes used")
        parts.append(f"modes are classes: {100 * summary['agreement']['matched']:.1f} %")
    return "; ".join(parts) + f" ({summary['listed']} images)"
