"""The numbers of one evaluation as tables, and the sentences that say what was scored and how."""

from collections.abc import Mapping

from mote.reporting.page import Section, percent


def samples(result: Mapping) -> str:
    """What was scored: clips, or images."""
    return "images" if result.get("items") == "images" else "clips"


def numbers_table(result: Mapping) -> list[dict[str, str]]:
    """Numbers of a result as rows of measure, value [95 %] and count; values in percent."""
    best = [_row(f"top-{result['top5_k']} (%)", result, "top5", result["listed"])] if result["top5_k"] > 1 else []
    return [
        _row("top-1 (%)", result, "top1", result["listed"]),
        *best,
        {
            "measure": "mean class recall (%)",
            "value [95 %]": percent(result["mean_class_recall"], result.get("mean_class_recall_interval")),
            "count": f"{len(result['per_class'])} of {result['num_classes']} classes",
        },
        *_further_numbers(result),
    ]


def scored_text(result: Mapping) -> str:
    """Sentences on how many clips or images were scored, by which protocol, and with which settings."""
    lost = result["listed"] - result["scored"]
    text = f"{result['scored']} of {result['listed']} listed {samples(result)} were decoded and scored."
    if lost:
        text += f" The {lost} that could not be decoded count as wrong."
    protocol = result.get("protocol")
    if protocol:
        name = protocol.get("identifier") or protocol.get("name") if isinstance(protocol, Mapping) else protocol
        text += f"\nProtocol: {name}."
    text += _setting(result)
    return text + "\nIn brackets: 95 % intervals, Wilson's; of the mean class recall by bootstrap within classes."


def _setting(result: Mapping) -> str:
    """Sentences on the list, classes and views of a result; "" where it does not name its list."""
    config = (result.get("provenance") or {}).get("config") or {}
    used = config.get("evaluation") or {}
    if not used.get("manifest"):
        return ""
    where = f"List: {used['manifest']}. Classes: {used.get('classes') or 'those of the model or the list'}."
    if samples(result) == "images":
        return f"\n{where}"
    how = f"Views (clips x crops): {used['clips']} x {used['crops']}, joined by {used['fusion']}."
    return f"\n{where}\n{how}"


def none_of_these(result: Mapping) -> list[Section]:
    """The section on clips of no listed class; empty where none were scored."""
    known = result.get("open_set")
    if not known or "auroc" not in known:
        return []
    sides, threshold = f"{known['known']} + {known['unknown']} clips", f"{known['threshold']:.3g}"
    areas = {"highest probability": known, **known.get("other_scores", {})}
    rows = [
        {
            "measure": f"AUROC of the {name.replace('_', ' ')} (%)",
            "value [95 %]": percent(area["auroc"], area["auroc_interval"]),
            "count": sides,
        }
        for name, area in areas.items()
    ]
    rows.append(_row(f"clips of no listed class below {threshold} (%)", known, "unknown_rejected", known["unknown"]))
    rows.append(_row(f"listed clips at or above {threshold} (%)", known, "known_accepted", known["known"]))
    text = (
        f"{known['unknown']} clips of no listed class were scored as well. Below a highest probability of {threshold},"
        " which keeps the wanted share of the listed clips, the answer is that it is none of these. AUROC: how often a"
        " listed clip scores above one of no listed class."
    )
    return [Section("None of these", text, table=rows)]


def _further_numbers(result: Mapping) -> list[dict[str, str]]:
    """Rows of the measures that only some evaluations have."""
    rows = []
    if halves := result.get("halves"):
        best = max((part.get("top5_k", 5) for part in halves["per_subset"]), default=5)
        for name, key in (("top-1", ""), (f"top-{best}", "top5_"))[: 2 if best > 1 else 1]:
            measure = f"{name} among half the classes (%), mean ± std"
            value = f"{percent(halves[f'{key}mean'])} ± {percent(halves[f'{key}std'])}"
            count = f"{len(halves['per_subset'])} halves"
            rows.append({"measure": measure, "value [95 %]": value, "count": count})
    if (overlap := result.get("overlap")) and overlap["excluded_classes"] and overlap["without"]:
        kept = overlap["without"]
        name = f"top-1 without {len(overlap['excluded_classes'])} classes known from tuning (%)"
        rows.append(_row(name, kept, "top1", kept["listed"]))
    if union := result.get("union"):
        rows.append(
            _row(f"top-1, {union['num_other']} other classes competing (%)", union, "top1_union", union["listed"])
        )
        rows.append(_row("fell on one of the other classes (%)", union, "fell_on_other", union["listed"]))
    if calibration := result.get("calibration"):
        value, count = percent(calibration["ece"]), f"{calibration['count']} {samples(result)}"
        rows.append({"measure": "expected calibration error (%)", "value [95 %]": value, "count": count})
    return rows


def _row(measure: str, part: Mapping, key: str, total: int) -> dict[str, str]:
    count = part.get(f"{key}_correct", part.get(f"{key}_count"))
    value = percent(part[key], part[f"{key}_interval"])
    return {"measure": measure, "value [95 %]": value, "count": f"{count} of {total}"}
