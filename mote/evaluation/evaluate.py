"""Any kind of model on a list."""

from pathlib import Path
from typing import Any

from mote.config import Config
from mote.evaluation.features import cache_folder, usage
from mote.evaluation.page import page_path
from mote.evaluation.videos import evaluate
from mote.inference.loading import load
from mote.parallel.accelerator import make_accelerator
from mote.reporting.headline import headline, report


def evaluate_model(
    model: str, config: Config, out: Path, backbone: str | None = None, union: str | None = None
) -> dict[str, Any]:
    """Score any model (see `mote.load`) on `config.evaluation`; returns the summary that was written."""
    accelerator = make_accelerator("fp32", cpu=config.run.cpu)
    if config.task in ("image", "expression"):
        from mote.evaluation.images import evaluate_folder

        summary = evaluate_folder(Path(model), config, accelerator, out)
        if accelerator.is_main_process:
            print(f"{out / config.evaluation.name}.json: {headline(summary)}")
            if (page := page_path(out, config.evaluation.name)).is_file():
                print(f"{page}: the same with pictures")
        return summary
    if config.task == "autoencoder":
        from mote.evaluation import autoencoder

        summary = autoencoder.evaluate_folder(Path(model), config, accelerator, out)
        if accelerator.is_main_process:
            print(f"{out / config.evaluation.name}.json: {headline(summary)}")
        return summary
    classifier = load(model, backbone=backbone, device=accelerator.device)
    summary = evaluate(classifier, config, accelerator, out, source={"model": model, "backbone": backbone}, union=union)
    if accelerator.is_main_process:
        print(f"{out / config.evaluation.name}.json: {headline(summary)}")
        if (page := page_path(out, config.evaluation.name)).is_file():
            print(f"{page}: the same with pictures")
        report(summary)
        folder = cache_folder(config.evaluation.cache, classifier)
        if folder is not None:
            print(usage(folder))
    return summary
