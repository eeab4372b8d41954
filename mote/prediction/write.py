"""Predictions of many inputs, written into a folder: only those that are missing, by any number of processes at once.

No process waits for another, or knows of it: what is whose follows from the names of the inputs, what is done from the
parts in the folder. A process that is killed loses what it had not yet written, which the next one does again.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mote.files.addresses import public_name
from mote.files.temporary import temporary_name
from mote.files.writing import writing
from mote.prediction.arrow import pa, pc
from mote.prediction.folder import finished, open_folder, record_inputs
from mote.prediction.parts import PACE, Pace, PartWriter, Plan, Result, as_text
from mote.prediction.share import ALL, Share

Input = str | Path


class Outcome(NamedTuple):
    """Numbers of inputs: different ones listed, this process's own, done now, and own ones without a result."""

    listed: int
    own: int
    now: int
    failed: int


def write_parts(
    predictions_of: Callable[[list[Input]], Iterator[Result | None]],
    inputs: Sequence[Input],
    out: Path | str,
    plan: Plan,
    *,
    share: Share = ALL,
    retry_failed: bool = False,
    pace: Pace = PACE,
) -> Outcome:
    """Write predictions of the inputs of `share` into the folder `out`, leaving out those that are done.

    Args:
        predictions_of: gives, lazily and in their order, the predictions of the inputs it is given; those of one input
            one after the other. Where an input has several, None says that these were all, so that they are written
            before the next input is worked on. It is not called where nothing is missing.
        inputs: all of them, whatever the share; of those with the same name the first is taken.
        retry_failed: inputs that failed are not done.

    Raises:
        ValueError, OSError: see `folder.open_folder`, `folder.record_inputs`, `parts.PartWriter`; before anything is
            predicted, but for a disk that becomes full.
    """
    out, named = Path(out), {}
    for one in inputs:
        named.setdefault(public_name(one), one)
    names = [*named]
    texts = pa.array(map(as_text, names), pa.string())
    open_folder(out, plan)
    record_inputs(out, names, texts)
    done, failed = (pc.is_in(texts, value_set=some).to_numpy(zero_copy_only=False) for some in finished(out, plan))
    own = np.fromiter(map(share.takes, names), bool, len(names))
    todo = own & ~done & ~(failed & (not retry_failed))
    left = int((own & failed & ~todo).sum())
    missing = [named[names[i]] for i in np.flatnonzero(todo)]
    if missing:
        with writing(out):  # found before anything slow begins
            (probe := temporary_name(out / "x")).touch()
            probe.unlink()
        left += _write(predictions_of(missing), PartWriter(out, plan, pace), list(map(public_name, missing)))
    return Outcome(len(names), int(own.sum()), len(missing), left)


def _write(predictions: Iterator[Result | None], writer: PartWriter, names: Iterable[str]) -> int:
    """How many inputs failed. What is whole is written also where an exception ends the work."""
    failed, expected = 0, iter(names)
    try:
        for whole in _by_input(predictions, writer.plan.timed):
            name = public_name(whole[0].path)
            assert name == next(expected, None), f"{name}: predicted out of order"
            writer.add(name, whole)
            failed += any(row.error is not None for row in whole)
    finally:
        try:
            writer.flush()
        finally:
            if isinstance(predictions, Generator):
                predictions.close()  # its workers end now
    assert next(expected, None) is None, "an input was left out"
    return failed


def _by_input(predictions: Iterator[Result | None], several: bool) -> Iterator[list[Result]]:
    """All predictions of each input; where there may be `several`, up to the next input or None."""
    rows: list[Result] = []
    for prediction in predictions:
        if rows and (prediction is None or str(prediction.path) != str(rows[0].path)):
            yield rows
            rows = []
        if prediction is not None:
            rows.append(prediction)
        if not several:
            yield rows
            rows = []
    if rows:
        yield rows
