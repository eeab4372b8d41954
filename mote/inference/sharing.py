"""Sharing models through the Hugging Face Hub, or as a folder: `mote push`.

A shared folder holds `model.safetensors` and `model.json` (see `mote.models.checkpoints`), `text.safetensors` where the
text tower was tuned, `backbone.*` where its CLIP was a local file and no tag of open_clip, `config.yaml`, a model card
`README.md`, and `evaluations/`: the results that were measured on exactly these weights. Absolute paths in settings and
results are shortened, because they name people and machines. `mote.load` takes the folder or the repository id. Only
huggingface_hub talks to the network; its cache, token and HF_HUB_OFFLINE apply.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import huggingface_hub

from mote.config import read_run_tree, to_yaml
from mote.files.addresses import one_line
from mote.files.provenance import without_places
from mote.files.run_directory import CONFIG, DESCRIPTION, TEXT, WEIGHTS, config_file, model_folder, read_description
from mote.files.writing import complete, refuse_filled, replacing_folder
from mote.inference.hub import HubError, is_repo_id
from mote.inference.loading import load_video
from mote.models.clip_weights import weights_file
from mote.reporting.model_card import check_result, model_card


def save_pretrained(
    run: str | Path, folder: str | Path, *, name: str | None = None, license: str | None = None
) -> Path:
    """Write the shared folder of a run (or model folder) into `folder`, which must be new or empty; returns it.

    `name`: how the card calls the model; None = `folder`. `license`: for the card; None leaves the field to you.

    Raises:
        FileExistsError: `folder` has something in it.
        ValueError, FileNotFoundError: no model in `run`, or the model needs a CLIP that nobody else could get
            (`local-dir:`, or a file that is gone).
    """
    run, folder = Path(run), Path(folder)
    refuse_filled(folder)
    model = model_folder(run)
    if not model.is_dir():
        raise FileNotFoundError(f"{run}: no such run directory or model folder")
    found = load_video(str(run), device="cpu")  # refuses what is damaged or does not fit
    meta, weights = _shared_backbone(model, read_description(model))
    meta = without_places(meta)
    results = without_places(_results(run, found.hashes([])["weights"], meta))
    config = None
    if (file := config_file(run)) is not None:
        tree = read_run_tree(file)
        config = to_yaml(without_places(tree))
    with replacing_folder(folder) as stage:
        (stage / "evaluations").mkdir(parents=True)
        for file in (WEIGHTS, *([TEXT] if meta.get("text_tuned") else [])):
            shutil.copyfile(model / file, stage / file)
        (stage / DESCRIPTION).write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
        if weights is not None:
            print(f"mote: {weights}: CLIP weights of a file, copied as {meta['backbone_file']}", file=sys.stderr)
            shutil.copyfile(weights, stage / meta["backbone_file"])
        if config is not None:
            (stage / CONFIG).write_text(config, encoding="utf-8")
        for result in results:
            target = stage / "evaluations" / f"{result['task']}.json"
            target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        card = model_card(name or folder.resolve().name, meta, results, config=config, license=license)
        (stage / "README.md").write_text(card, encoding="utf-8")
    return folder


def _shared_backbone(model: Path, meta: dict[str, Any]) -> tuple[dict[str, Any], Path | None]:
    """`model.json` as others can use it, and the file of CLIP weights to copy beside it, which new labels need."""
    name, weights = str(meta.get("backbone")), meta.get("pretrained")
    if name.startswith("local-dir:"):
        raise ValueError(f"{model}: its CLIP is {name}, a folder of this machine; a shared model needs a tag or a file")
    if (file := weights_file(name, weights)) is None:
        return meta, None
    file = model / Path(meta["backbone_file"]).name if meta.get("backbone_file") else file
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: no such file; {model} needs these CLIP weights, and so would who downloads it"
        )
    return {**meta, "pretrained": file.name, "backbone_file": f"backbone{file.suffix}"}, file


def push_to_hub(run: str | Path, repo: str, *, private: bool = False, license: str | None = None) -> str:
    """Upload a run's shared folder to the repository `repo` in one commit, made when it does not exist; its address.

    Raises:
        HubError: no network, no token, or no right to write there.
        ValueError, FileNotFoundError: as `save_pretrained`.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = save_pretrained(run, Path(temporary) / "model", name=repo, license=license)
        try:
            api = huggingface_hub.HfApi()
            address = api.create_repo(repo, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Upload model with mote")
        except Exception as error:  # as in download
            raise HubError(f"{repo}: could not be pushed to the Hugging Face Hub: {one_line(error)}") from error
    return str(address)


def push(run: str, target: str, *, private: bool = False, license: str | None = None) -> str:
    """What `mote push` does: `target` is a repository id `organisation/name`, else a folder; returns where it went.

    Raises:
        ValueError: `target` is the name of a repository and of a folder here.
    """
    if not is_repo_id(target):
        return str(save_pretrained(run, target, license=license))
    if Path(target).exists():
        raise ValueError(f"{target}: a folder of this name is here; write ./{target} for it, or push from elsewhere")
    return push_to_hub(run, target, private=private, license=license)


def _results(run: Path, weights_now: str, meta: dict[str, Any]) -> list[dict[str, Any]]:
    """The run's result files that were measured on the weights of `best/`; others are named on stderr."""
    hashes = {weights_now}
    found: dict[str, dict[str, Any]] = {}
    complete(run / "evaluations")
    metrics = run / "metrics.json"  # written with best/; folded on another device, the last bits may differ
    for file in [metrics, *sorted((run / "evaluations").glob("*.json"))]:
        if not file.is_file():
            continue
        try:
            result = json.loads(file.read_text(encoding="utf-8"))
            if not {"top1", "provenance"} <= result.keys():
                continue
            weights = result["provenance"]["hashes"]["weights"]
            check_result(result, meta)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            print(f"mote: {file}: left out, it is damaged ({one_line(error)})", file=sys.stderr)
            continue
        hashes |= {weights} if file == metrics else set()
        if weights in hashes:
            found.setdefault(result["task"], result)
        elif result["task"] not in found:
            print(f"mote: {file}: left out, it was measured on other weights", file=sys.stderr)
    return list(found.values())
