"""`mote train`."""

import argparse
import shlex

from mote.commands.verbs import Verbs, add_verb, load_config


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    train = add_verb(
        verbs,
        "train",
        _run,
        "train from YAML files (merged left to right) and a.b=c overrides",
        writes="run.out: config.yaml, log.jsonl, last/ (checkpoints), best/ (the model), metrics.json, evaluations/",
        examples=(
            "mote train data.train=train.csv evaluation.manifest=val.csv run.out=runs/a",
            "mote train configs/ucf101.yaml data.train=lists/train1.txt run.out=runs/a optim.lr=1e-4",
            "mote train runs/a --resume",
            "mote train configs/ucf101.yaml data.train=lists/train1.txt --dry-run",
        ),
    )
    train.add_argument("config", nargs="*", help="YAML files, overrides, or a run directory with --resume")
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint, if there is one")
    train.add_argument(
        "--dry-run", action="store_true", help="build everything, take one step, say what training costs; write nothing"
    )
    train.add_argument(
        "--find-batch-size",
        action="store_true",
        help="a dry run that also finds the least optim.accumulation that fits",
    )


def _run(arguments: argparse.Namespace) -> int:
    if arguments.dry_run or arguments.find_batch_size:
        config = load_config(arguments.config)
        from mote.experiments.early import check_parts

        check_parts(config)
        from mote.experiments.dry_run import dry_run

        dry_run(config, arguments.find_batch_size)
        return 0
    from mote.parallel.launch import has_company, is_first
    from mote.training.signals import Stop, Stopped

    stop = Stop(at_once=not has_company())  # of several processes those that do not start yet could not be told
    try:
        with stop.listening():
            config = load_config(arguments.config)
            from mote.experiments.early import check_training

            check_training(config, arguments.resume)
            from mote.experiments.train import train

            train(config, resume=arguments.resume, stop=stop)
    except Stopped as stopped:
        line = str(stopped)
        if line and is_first():
            again = shlex.join(["mote", "train", *arguments.config, *["--resume"] * arguments.resume])
            print(line if " with: mote " in line else f"{line}; start again with: {again}", flush=True)
    return 0
