"""The model card of a shared model: front matter for the Hugging Face Hub, then a description for its users.

Everything in it is read from the files of the run: `model.json`, `config.yaml` and result files. The license is not
guessed; who shares a model chooses one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from mote.files.preprocessing import read_preprocessing
from mote.reporting.page import percent

RESIZED = {  # `resize` of the preprocessing, in words
    "shortest": "the short side to {size}, then the central square",
    "longest": "the long side to {size}, with bars of the colour {fill}",
    "squash": "both sides to {size}, whatever their ratio",
    "crop": "the central square, then to {size}",
}
CLIPS = ("frames", "size", "sampling", "stride", "difference", "mean", "std")  # in model.json and in settings of `data`
METRICS = {"top1": "top-1 accuracy", "top5": "top-5 accuracy", "mean_class_recall": "mean class recall"}


def model_card(
    name: str,
    meta: Mapping,
    results: Sequence[Mapping] = (),
    *,
    config: str | None = None,
    license: str | None = None,
) -> str:
    """Markdown with YAML front matter.

    Args:
        name: repository id or folder name, as in `mote.load(name)`.
        meta: the content of `model.json`.
        results: result files of `mote eval` on these weights, as parsed.
        config: the resolved configuration of training, YAML.
        license: identifier of the Hub, such as "apache-2.0"; None leaves the field out.
    """
    tags = ["mote", "video", "CLIP", "zero-shot", "action-recognition"]
    protocols = [protocol_of(result, meta) for result in results]
    data = ModelCardData(
        license=license,
        library_name="mote",
        pipeline_tag="video-classification",
        tags=tags,
        metrics=["accuracy"] if results else None,
        model_name=Path(name).name,
        eval_results=[item for pair in zip(results, protocols, strict=True) for item in _eval_results(*pair)] or None,
    )
    parts = [f"---\n{data.to_yaml()}\n---", f"# {Path(name).name}", _model(meta), _usage(name, meta)]
    parts += [_results(results, protocols)] if results else []
    classes = meta.get("classes") or []
    if classes:
        parts.append(_folded(f"The {len(classes)} classes it was tuned on", ", ".join(classes)))
    if config is not None:
        parts.append(_folded("How it was trained: `mote train config.yaml` with", f"```yaml\n{config.strip()}\n```"))
    return "\n\n".join(parts) + "\n"


def dataset_of(result: Mapping) -> str:
    """Name of the evaluation and file name of its list."""
    manifest = Path(result["provenance"]["config"]["evaluation"]["manifest"] or "")
    return f"{result['task']} ({manifest.name})"


def protocol_of(result: Mapping, meta: Mapping) -> str:
    """Settings of an evaluation in words: views, fusion, modulation, weight interpolation where there was one, and
    how its clips were made where that is not the way of the model, which `meta` tells.
    """
    settings = result["provenance"]["config"]["evaluation"]
    gate = {True: "on", False: "off", None: "on for new classes"}[settings["modulation"]]
    views = f"{settings['clips']} clips x {settings['crops']} crops, {settings['fusion']}, modulation {gate}"
    views += "" if settings["alpha"] == 1 else f", alpha {settings['alpha']}"
    return ", ".join([views, *_other_clips(result["provenance"]["config"].get("data", {}), meta)])


def _other_clips(data: Mapping, meta: Mapping) -> list[str]:
    """`key value` of each setting of `data` by which clips were made in another way than that of the model.

    Results from before there was a choice of preprocessing do not say how their clips were made.
    """
    if data.get("interpolation") is None:
        return []
    own = {key: meta[key] for key in CLIPS if key in meta} | read_preprocessing(meta)._asdict()
    own |= {key: [*own[key]] for key in ("fill", "mean", "std") if key in own}
    if data.get("resize") != "longest":
        del own["fill"]  # there are no bars
    if "dense" not in (data.get("sampling"), own.get("sampling")):
        own.pop("stride", None)  # which only dense clips have
    return [f"{key} {data[key]}" for key, value in own.items() if key in data and data[key] != value]


def _eval_results(result: Mapping, protocol: str) -> list[EvalResult]:
    name = dataset_of(result)
    counts = {key: result[key] for key in ("listed", "scored", "num_classes")}
    return [
        EvalResult(
            task_type="video-classification",
            dataset_type=result["task"],
            dataset_name=name,
            metric_type="accuracy" if key.startswith("top") else "recall",
            metric_name=f"top-{result['top5_k']} accuracy" if key == "top5" else label,
            metric_value=round(100 * result[key], 2),
            metric_args={**counts, "protocol": protocol, **_interval(result, key)},
        )
        for key, label in METRICS.items()
        if key != "top5" or result["top5_k"] > 1
    ]


def _interval(result: Mapping, key: str) -> dict[str, list[float]]:
    interval = result.get(f"{key}_interval")
    return {"interval_95": [round(100 * end, 2) for end in interval]} if interval else {}


def _model(meta: Mapping) -> str:
    head = f"a temporal head of {meta['num_layers']} layers with {meta['num_experts']} experts each, merged for use"
    head = head if meta["num_layers"] else "the mean over frames"
    tower = f"`{meta['backbone']}`" + (f" (`{meta['pretrained']}`)" if meta.get("pretrained") else "")
    sampling = f"dense, stride {meta['stride']}" if meta.get("sampling") == "dense" else "one per segment"
    pixels = f"{meta['frames']} RGB frames ({sampling}) of {meta['size']} x {meta['size']} pixels"
    if meta.get("difference"):
        pixels += f", each as its difference to the frame {meta['difference']} later"
    return (
        f"A video classifier of [MoTE](https://arxiv.org/abs/2410.10589)'s kind: CLIP {tower} and {head}. It sees "
        f"{pixels}, and names videos by any labels given as text.\n\n{_pixels(meta)}"
    )


def _pixels(meta: Mapping) -> str:
    """How a frame becomes what the network sees."""
    way, size = read_preprocessing(meta), f"{meta['size']} pixels"
    resized = RESIZED[way.resize].format(size=size, fill=way.fill)
    text = f"Preprocessing of a frame: {resized}; {way.interpolation} and antialiased, on 8 bits"
    for key, name in (("mean", "mean"), ("std", "standard deviation")):
        if key in meta:
            text += f"; {name} {' '.join(f'{value:.6g}' for value in meta[key])}"
    return f"{text} (of R, G, B in [0, 1])." if "mean" in meta else f"{text}."


def _usage(name: str, meta: Mapping) -> str:
    own = "the classes it was tuned on" if meta.get("classes") else "labels have to be given"
    return f"""## Use

```python
import mote

model = mote.load("{name}")
model.classify_video("clip.mp4", ["surfing", "skiing"])  # {{label: probability}}; without labels: {own}
```

```sh
mote predict {name} clip.mp4 --labels "surfing,skiing"
```"""


def check_result(result: Mapping, meta: Mapping) -> None:
    """Raise LookupError, TypeError or ValueError where a result lacks what the card shows of it."""
    protocol = protocol_of(result, meta)
    _results([result], [protocol])
    _eval_results(result, protocol)


def _results(results: Sequence[Mapping], protocols: Sequence[str]) -> str:
    rows = [
        "## Results",
        "In percent, with 95 % intervals (Wilson); undecodable videos count as wrong.",
        "| evaluation | classes | videos scored | top-1 | top-5 | mean class recall | protocol |\n"
        "|---|---|---|---|---|---|---|",
    ]
    for result, protocol in zip(results, protocols, strict=True):
        top5 = percent(result["top5"], result["top5_interval"])
        cells = [dataset_of(result), result["num_classes"], f"{result['scored']} of {result['listed']}"]
        cells += [percent(result["top1"], result["top1_interval"])]
        cells += [top5 if result["top5_k"] == 5 else f"{top5} (top-{result['top5_k']})" if result["top5_k"] > 1 else ""]
        cells += [percent(result["mean_class_recall"]), protocol]
        rows[-1] += "\n| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
    rows.append("Every result in full (configuration, hashes, versions, confusion matrix): `evaluations/`.")
    return "\n\n".join(rows)


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"
