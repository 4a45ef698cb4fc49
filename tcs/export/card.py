"""The model card of a Hub folder: what the student is, whose terms came with its teacher, and how well it was seen to do."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import huggingface_hub
import timm

from tcs.config.pixels import student_rules_in
from tcs.errors import listed
from tcs.evaluation.scores import wilson
from tcs.export.opening_lines import IMPORTS, open_image_lines

LISTED_CLASSES = 40
UNKNOWN = "unknown"  # as stores have it of a licence that nobody told
TASK = "image-classification"
TRANSFORM = "the student"  # whose metadata it is, for a message

# What the Hub knows by name; any other licence is `other` there, with its name beside it.
HUB_LICENCES = (
    "apache-2.0",
    "mit",
    "bsd-3-clause",
    "bsd-2-clause",
    "cc-by-4.0",
    "cc0-1.0",
    "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """Top-1 in percent of `hits` of `n` images of `store` (name and identity); `seen` of them were seen in training."""

    store: str
    identity: str
    hits: int
    n: int
    seen: int

    @property
    def top1(self) -> float:
        """Percent, two decimals."""
        return round(100 * self.hits / self.n, 2)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of top-1, in percent (Wilson 1927)."""
        low, high = wilson(self.hits, self.n)
        return round(low, 2), round(high, 2)


def model_card(name: str, metadata: Mapping[str, Any], score: Score | None) -> str:
    """The text of README.md: the Hub's YAML head, and what a person wants to know."""
    head = _head(name, metadata, score).to_yaml()
    body = "\n\n".join(part for part in _sections(name, metadata, score) if part)
    return f"---\n{head}\n---\n\n{body}\n"


def _head(name: str, metadata: Mapping[str, Any], score: Score | None) -> huggingface_hub.ModelCardData:
    licence = metadata["teacher"].get("licence", UNKNOWN)
    is_known = licence in HUB_LICENCES
    results = None if score is None else [_result(score)]
    return huggingface_hub.ModelCardData(
        library_name="timm",
        pipeline_tag=TASK if metadata["classes"] else "image-feature-extraction",
        tags=["timm", TASK, "distillation"] if metadata["classes"] else ["timm", "distillation"],
        license=licence if is_known or licence == UNKNOWN else "other",
        license_name=None if is_known or licence == UNKNOWN else licence,
        base_model=_hub_name(metadata["teacher"].get("name")),
        model_name=name,
        eval_results=results,
    )


def _result(score: Score) -> huggingface_hub.EvalResult:
    low, high = score.interval
    return huggingface_hub.EvalResult(
        task_type=TASK,
        dataset_type="imagefolder",
        dataset_name=score.store,
        dataset_revision=score.identity,
        metric_type="accuracy",
        metric_value=score.top1,
        metric_name=f"top-1 (%), n = {score.n}, 95 % interval {low} to {high}",
    )


def _hub_name(teacher: str | None) -> str | None:
    """The teacher's repository on the Hub, where timm or its name tells one."""
    if teacher is None:
        return None
    if teacher.startswith("hf-hub:"):
        return teacher.removeprefix("hf-hub:").partition("@")[0]
    entry = timm.get_pretrained_cfg(teacher) if timm.is_model(teacher.partition(".")[0]) else None
    return None if entry is None or not entry.hf_hub_id else str(entry.hf_hub_id).partition("@")[0]


def _sections(name: str, metadata: Mapping[str, Any], score: Score | None) -> list[str]:
    return [
        f"# {name}",
        _summary(metadata),
        _use(metadata),
        _table("Teacher", _teacher_rows(metadata["teacher"])),
        _table("Training", _training_rows(metadata["run"])),
        _scores(score),
        _table("Images", _image_rows(metadata)),
        _classes(metadata["classes"]),
    ]


def _summary(metadata: Mapping[str, Any]) -> str:
    run, kind = metadata["run"], "classifier" if metadata["classes"] else "backbone (no classifier)"
    return (
        f"A `{metadata['architecture']}` {kind}, distilled with tcs-distill from the cached features of a teacher. The teacher is not "
        f"part of it. Method: `{run['method']}`."
    )


def _use(metadata: Mapping[str, Any]) -> str:
    ours = (
        "import tcs.students.zoo  # makes the name known to timm\n"
        if metadata["architecture"].startswith("cifar_")
        else ""
    )
    return (
        f"## Use\n\n```python\nimport timm\nimport torch\n{IMPORTS}{ours}\n"
        'model = timm.create_model("local-dir:PATH", pretrained=True).eval()  # or hf-hub:OWNER/NAME\n'
        "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)\n\n\n"
        f"{open_image_lines(student_rules_in(metadata['transform'], TRANSFORM), metadata['transform']['img_size'])}\n\n"
        'with torch.inference_mode():\n    outputs = model(transform(open_image("photo.jpg"))[None])\n```\n\n'
        "`tcs predict PATH photo.jpg` does the same, and more for rarer files (colour profiles, 16 bits, CMYK)."
    )


def _teacher_rows(teacher: Mapping[str, Any]) -> dict[str, Any]:
    if not teacher:
        return {"name": "not recorded: the store that the student was trained on was not at hand"}
    source = teacher.get("licence_according_to")
    return {
        "name": f"`{teacher.get('name')}`",
        "licence of its weights": teacher.get("licence", UNKNOWN) + (f" (according to {source})" if source else ""),
        "terms": teacher.get("licence_terms", UNKNOWN),
        "origin": teacher.get("origin_url"),
        "papers": listed(teacher.get("paper_ids") or []) if teacher.get("paper_ids") else None,
        "digest of its weights": teacher.get("weights"),
    }


def _training_rows(run: Mapping[str, Any]) -> dict[str, Any]:
    shots = run.get("shots")
    return {
        "method": f"`{run['method']}`",
        "loss": f"`{run['loss']}`" if run.get("loss") else None,
        "shots (labelled images a class)": "all labels" if shots is None else shots,
        "labelled images": run.get("labelled_rows"),
        "images, labelled or not": run.get("rows"),
        "steps": run.get("steps"),
        "seed": run.get("seed"),
        "start": _start(run),
        "fingerprint of the run": f"`{run['fingerprint']}`",
        "digest of the weights": f"`{run['weights']}`",
        "identity of the store": f"`{run['store_identity']}`",
        "identity of the targets": f"`{run['targets_identity']}`" if run.get("targets_identity") else None,
        "digest of the split": f"`{run['split_digest']}`",
    }


def _start(run: Mapping[str, Any]) -> str:
    """Where the weights began, and under which terms timm has them."""
    if not run.get("pretrained"):
        return "random weights"
    entry = timm.get_pretrained_cfg(run["model"].partition(",")[0])
    licence = getattr(entry, "license", None) or UNKNOWN
    return f"timm's pretrained weights of `{run['model'].partition(',')[0]}`, licence {licence}"


def _image_rows(metadata: Mapping[str, Any]) -> dict[str, Any]:
    transform = metadata["transform"]
    return {
        "from file to pixels": student_rules_in(transform, TRANSFORM).describe(),
        "side": f"{transform['img_size']} px",
        "square": transform["crop"],
        "interpolation": transform["interpolation"],
        "mean": listed(transform["mean"]),
        "std": listed(transform["std"]),
        "temperature of the logits": metadata["temperature"],
    }


def _scores(score: Score | None) -> str:
    if score is None:
        return "## Scores\n\nNone: the folder was written without a test store."
    low, high = score.interval
    seen = (
        f" {score.seen} of the images were seen in training."
        if score.seen
        else " None of the images was seen in training."
    )
    return (
        f"## Scores\n\n| test images | n | top-1 | 95 % interval (Wilson) |\n|---|---:|---:|---|\n"
        f"| {_cell(score.store)} (`{score.identity}`) | {score.n} | {score.top1} % | {low} to {high} % |\n\nOne run, one seed.{seen}"
    )


def _classes(classes: list[str]) -> str:
    if not classes:
        return ""
    return f"## Classes ({len(classes)})\n\n{listed([f'`{_cell(name)}`' for name in classes], LISTED_CLASSES)}"


def _table(title: str, rows: Mapping[str, Any]) -> str:
    lines = [f"| {name} | {_cell(str(value))} |" for name, value in rows.items() if value is not None]
    return "\n".join([f"## {title}\n", "| | |", "|---|---|", *lines])


def _cell(text: str) -> str:
    """Text that neither ends a cell of a table nor a line."""
    return " ".join(text.replace("|", "\\|").split())
