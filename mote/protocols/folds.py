"""Protocols of folds: which run belongs to which list."""

from collections.abc import Sequence

from mote.config import Config
from mote.evaluation.videos import training_warning
from mote.protocols.lists import ProtocolList
from mote.protocols.table import Protocol


def check_folds(
    protocol: Protocol, lists: Sequence[ProtocolList], models: Sequence[str], configs: Sequence[Config]
) -> None:
    """Check that there is a run for each list, in their order, and none was trained on clips of its list.

    Args:
        protocol: named in the message.
        lists: see `find_lists`.
        models, configs: names of the runs, and their configurations.

    Raises:
        ValueError: naming the run and the clips.
    """
    wanted = ", ".join(one.name for one in lists)
    if len(models) != len(lists):
        raise ValueError(f"{protocol.identifier} needs a run for each of {wanted}, in this order; got {len(models)}")
    for model, config, one in zip(models, configs, lists, strict=True):
        if seen := training_warning(config, one.records):
            raise ValueError(f"{model}, for {one.name}: {seen[0]}; give the runs in the order {wanted}")
