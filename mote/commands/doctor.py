"""`mote doctor`."""

import argparse
import json

from mote.commands.verbs import Verbs, add_verb


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    doctor = add_verb(
        verbs,
        "doctor",
        _run,
        "what this machine has and lacks: versions, devices, decoders, caches, network, disk",
        writes="nothing",
        examples=("mote doctor", "mote doctor --json"),
    )
    doctor.add_argument("--json", action="store_true", help="print a list of {topic, state, text}, for programs")


def _run(arguments: argparse.Namespace) -> int:
    from mote.inference.doctor import look

    found = []
    for finding in look():
        found.append(finding)
        if not arguments.json:
            print(f"{finding.state:<8}{finding.topic:<14}{finding.text}", flush=True)
    if arguments.json:
        print(json.dumps([finding._asdict() for finding in found], indent=1))
    return int(any(finding.state == "broken" for finding in found))
