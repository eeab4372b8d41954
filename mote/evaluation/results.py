"""Result files: a JSON file that says what was measured on what, and a CSV file with every prediction.

`provenance` collects what a reader needs to measure the same number again: the resolved configuration, SHA-256 of the
manifest, class list and weights, versions, seed and date. Both files are replaced together, so an interrupted run
leaves the old result or the new one; and one process (or launch of several) works on a result at a time.
"""

import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from io import StringIO
from pathlib import Path

from mote.files.provenance import REQUIRED_PROVENANCE
from mote.files.writing import alone, replacing_together, to_json
from mote.metrics.accuracy import rank_classes
from mote.metrics.scores import Scores
from mote.parallel.accelerator import Accelerator, on_main
from mote.reporting.evaluation_page import page_files


@contextmanager
def working_on(accelerator: Accelerator, out: Path, name: str) -> Iterator[None]:
    """Context in which nobody else works on the result `out/name.json`; the main process holds the lock for all.

    Raises:
        InUseError: another process or launch does.
        WritingError: nothing can be written there.
    """
    with ExitStack() as held:
        on_main(accelerator, lambda: held.enter_context(alone(out / f"{name}.json")))
        yield


def write_results(
    folder: Path | str,
    name: str,
    summary: Mapping,
    *,
    records: Sequence[tuple[Path | str, int]],
    classes: Sequence[str],
    scores: Scores,
    provenance: Mapping,
    columns: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Path, Path]:
    """Write `folder/name.json` (task, summary, undecodable files, provenance) and `folder/name.csv` (predictions).

    records: the (path, label) of every clip, in the order of `scores`. columns: more cells of the .csv, one per clip.
    Infinities (a temperature, say) are written as the strings "inf" and "-inf"; NaN is refused. The hash of the .csv is
    added to those of the provenance, as `predictions`. Returns the two paths.
    An older page of the result is removed, for its numbers are gone.
    Raises ValueError when the parts do not fit together or provenance lacks an entry.
    """
    folder = Path(folder)
    missing = [key for key in REQUIRED_PROVENANCE if key not in provenance]
    if missing:
        raise ValueError(f"provenance lacks {', '.join(missing)}; build it with results.provenance(...)")
    if Path(name).name != name:
        raise ValueError(f"result name {name!r} must be a plain file name without folders")
    if [int(label) for _, label in records] != scores.label.tolist():
        raise ValueError("labels of records and scores differ; both must list the same clips in the same order")
    undecodable = [str(path) for (path, _), valid in zip(records, scores.valid, strict=True) if not valid]
    json_path, csv_path = folder / f"{name}.json", folder / f"{name}.csv"
    table = _predictions(records, classes, scores, columns or {})
    content = hashlib.sha256(table.encode("utf-8", "surrogateescape")).hexdigest()
    origin = {**provenance, "hashes": {**provenance["hashes"], "predictions": content}}
    document = {"task": name, **summary, "undecodable": undecodable, "provenance": origin}
    text = to_json(document)
    with alone(json_path), replacing_together(folder, gone=page_files(name)) as stage:
        (stage / csv_path.name).write_bytes(table.encode("utf-8", "surrogateescape"))
        (stage / json_path.name).write_bytes(text.encode("utf-8", "surrogateescape"))
    return json_path, csv_path


def _predictions(
    records: Sequence[tuple[Path | str, int]],
    classes: Sequence[str],
    scores: Scores,
    columns: Mapping[str, Sequence[str]],
) -> str:
    """Return one CSV line per clip; the cells of a clip that was not decoded are empty after `valid`.

    label_probability is that of the true class, which need not be among the best five.
    """
    ranked = rank_classes(scores.probabilities, min(5, len(classes)))
    places = range(1, ranked.shape[1] + 1)
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    top = [column for place in places for column in (f"top{place}", f"top{place}_probability")]
    writer.writerow(
        ["path", "label", "predicted", "correct", "valid", "probability", *top, "label_probability", *columns]
    )
    for row, (path, label) in enumerate(records):
        more = [cells[row] for cells in columns.values()]
        if not scores.valid[row]:
            writer.writerow([path, classes[label], "", 0, 0, "", *[""] * len(top), "", *more])
            continue
        best, probability = ranked[row], scores.probabilities[row]
        cells = [cell for i in best for cell in (classes[i], f"{probability[i]:.9g}")]
        first = [classes[best[0]], int(best[0] == label), 1, f"{probability[best[0]]:.9g}"]
        writer.writerow([path, classes[label], *first, *cells, f"{probability[label]:.9g}", *more])
    return text.getvalue()
