"""Write tcs/stages/, the public functions of the stages as they are declared: every option with its type, default and help.

    python scripts/make_stages.py

Names, types and defaults are those of the configurations, words those of the commands' help (stage_words.py), and what a stage does is
told by the docstring of the function that runs it. A test holds the files against what this would write. They are files, and not made
at run time, because type checkers and editors read files.
"""

import dataclasses
import importlib
import inspect
import pathlib
import re
import textwrap
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args, get_origin

from stage_words import command_of, default_of, in_order, told_options

import tcs
from tcs.config.distill_options import DistillOptions
from tcs.config.plain import AnyPath, kinds_of
from tcs.config.train import TrainOptions
from tcs.errors import listed

PLACE = pathlib.Path(tcs.__file__).parent / "stages"
WIDTH = 120
QUALIFIED = re.compile(r"\b((?:[a-z_]\w*\.)+)([A-Z]\w*)")
OPTIONS: Mapping[str, type] = {"DistillConfig": DistillOptions, "TrainConfig": TrainOptions}  # side by side

# public function -> (the function that runs it, its command)
STAGES: Mapping[str, tuple[str, str]] = {
    "distill": ("tcs.pipeline.chain.distill", "distill"),
    "pretrain": ("tcs.pretraining.teacher.pretrain", "pretrain"),
    "extract": ("tcs.extraction.extract.extract", "extract"),
    "fit": ("tcs.coordinates.fit.fit", "fit"),
    "fit_targets": ("tcs.coordinates.targets.fit_targets", "targets"),
    "train": ("tcs.training.train.train", "train"),
    "forecast": ("tcs.training.train.forecast", "train"),
    "evaluate": ("tcs.evaluation.students.evaluate", "eval"),
    "predict": ("tcs.inference.prediction.predict", "predict"),
    "measure_latency": ("tcs.inference.latency.measure_latency", "latency"),
    "export_students": ("tcs.export.stage.export_students", "export"),
    "suggest": ("tcs.labelling.suggest.suggest", "suggest"),
    "label_store": ("tcs.splits.given_labels.label_store", "cache label"),
    "audit": ("tcs.auditing.run.audit", "audit"),
    "look": ("tcs.looking.run.look", "look"),
    "probe": ("tcs.evaluation.probe.probe", "probe"),
    "compare_teachers": ("tcs.evaluation.teachers.compare_teachers", "probe"),
    "fewshot": ("tcs.grid.run.fewshot", "fewshot"),
    "recompute": ("tcs.maintenance.recompute.recompute", "cache verify"),
    "update": ("tcs.maintenance.update.update", "cache update"),
    "repair": ("tcs.maintenance.repair.repair", "cache repair"),
    "import_features": ("tcs.exchange.features.import_features", "cache import"),
}

INIT = '"""The public functions of the stages, as `tcs` offers them. Written by scripts/make_stages.py; not to be edited."""\n'
FILE = '''"""`tcs.{name}`, as it is called. Written by scripts/make_stages.py; not to be edited."""

{imports}

# fmt: off

@overload
def {name}(
{first}
) -> {returned}: ...
@overload
def {name}(
{options}
) -> {returned}: ...
@takes({takes})
def {name}(*given: Any, **named: Any) -> Any:
    """{told}
    """
'''


class Source:
    """Annotations as source, and the imports that they need."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}  # module -> what is imported from it
        self._modules: set[str] = set()  # imported whole

    def name(self, module: str, name: str) -> str:
        """A name, imported; of the package `cache` the public one, and of the standard library's paths by their module."""
        package = module.partition(".")[0]
        if package in ("os", "pathlib"):
            self._modules.add(package)
            return f"{package}.{name}"
        self._names.setdefault(package if package == "cache" else module, set()).add(name)
        return name

    def of(self, kind: Any) -> str:
        """The annotation `kind` as it is."""
        if isinstance(kind, type) and not get_args(kind):
            return kind.__name__ if kind.__module__ == "builtins" else self.name(kind.__module__, kind.__name__)
        return QUALIFIED.sub(lambda found: self.name(found[1].rstrip("."), found[2]), str(kind))

    def of_option(self, kind: Any) -> str:
        """What a function takes for a field of this annotation: any path for a path, and lists too for tuples of any length."""
        inner = get_args(kind)
        if kind == AnyPath:
            return self.name("tcs.config.plain", "AnyPath")
        if isinstance(kind, types.UnionType):
            return " | ".join("None" if one is type(None) else self.of_option(one) for one in kinds_of(kind))
        if get_origin(kind) is tuple and inner[-1] is ...:
            return f"{self.name('tcs.config.plain', 'Several')}[{self.of_option(inner[0])}]"
        if get_origin(kind) is Mapping:
            return f"{self.name('collections.abc', 'Mapping')}[{', '.join(map(self.of_option, inner))}]"
        return self.of(kind)

    def lines(self) -> str:
        """The imports, in ruff's order."""
        lines = [f"import {module}" for module in sorted(self._modules)]
        for module, names in sorted(self._names.items()):
            plain = sorted((name for name in names if " as " not in name), key=lambda name: (name[0].islower(), name))
            lines += [f"from {module} import {', '.join(plain)}"] if plain else []
            lines += [f"from {module} import {name}" for name in sorted(names - set(plain))]
        ours = [line for line in lines if line.startswith(("from tcs.", "from cache "))]
        return "\n".join([*(line for line in lines if line not in ours), "", *ours])


def source_of(function: str) -> str:
    """The file of a public function, as it is to be."""
    path, command = STAGES[function]
    module, _, name = path.rpartition(".")
    stage = getattr(importlib.import_module(module), name)
    config, *beside = inspect.signature(stage).parameters.values()
    kind: Any = config.annotation
    options = OPTIONS.get(kind.__name__, kind)
    fields = in_order(options, command_of(command))
    source = Source()
    for place, word in (
        ("typing", "Any"),
        ("typing", "overload"),
        ("tcs.config.stage", "takes"),
        (module, f"{name} as run"),
    ):
        source.name(place, word)
    first = [
        f"config: {source.of(kind)}",
        "/",
        *(f"{each.name}: {source.of(each.annotation)} = ..." for each in beside),
    ]
    side_by_side = [] if options is kind else [source.of(options)]
    text = FILE.format(
        name=function,
        first=_packed(first),
        returned=source.of(inspect.signature(stage).return_annotation),
        options=_packed(_parameters(fields, source)),
        takes=", ".join(["run", source.of(kind), *side_by_side]),
        told=_told(stage, kind, [each.name for each in beside], told_options(function, command_of(command), fields)),
        imports="{imports}",
    )
    return text.replace("{imports}", source.lines(), 1)


def _parameters(fields: Sequence[dataclasses.Field[Any]], source: Source) -> list[str]:
    """The options as the parameters of a function."""
    found = []
    for field in fields:
        if field.kw_only and "*" not in found:
            found.append("*")
        default = default_of(field)
        shown = "" if default is dataclasses.MISSING else f" = {'...' if default == {} else repr(default)}"
        found.append(f"{field.name}: {source.of_option(field.type)}{shown}".replace("'", '"'))
    return found


def _packed(parameters: Sequence[str]) -> str:
    """Parameters in as few lines as they fit into."""
    lines = [""]
    for each in parameters:
        if len(lines[-1]) + len(each) + 6 > WIDTH:
            lines.append("")
        lines[-1] += f" {each},"
    return "\n".join(f"   {line}" for line in lines).rstrip(",")


def _told(stage: Callable[..., Any], kind: type, beside: Sequence[str], options: Mapping[str, str]) -> str:
    """The docstring: what the stage does, how it is called, and each option."""
    does = re.sub(r"`config\.(\w+)", r"`\1", str(inspect.getdoc(stage)))
    called = (
        f"Takes the options below, which are those of tcs.{kind.__name__}, or one such configuration as its "
        f"{'first' if beside else 'only'} argument. "
        + (f"After a configuration, and only there, it takes {listed(beside)} too. " if beside else "")
        + "A path is a text or any os.PathLike, and a list may stand for a tuple. TypeError for a name that is no option, ConfigError "
        "for a value that makes no sense."
    )
    lines = [*does.splitlines(), "", *textwrap.wrap(called, WIDTH - 4), "", "Args:"]
    for name, text in options.items():
        lines += textwrap.wrap(
            f"{name} {text}", WIDTH - 4, initial_indent=" " * 4, subsequent_indent=" " * 8, break_on_hyphens=False
        )
    return textwrap.indent("\n".join(lines), "    ", lambda line: bool(line.strip())).strip()


def files() -> dict[str, str]:
    """File name -> its text."""
    return {"__init__.py": INIT, **{f"{function}.py": source_of(function) for function in STAGES}}


def write(place: pathlib.Path, texts: Mapping[str, str]) -> None:
    """Make `place` hold these files of Python and no others."""
    place.mkdir(exist_ok=True)
    for path in place.glob("*.py"):
        if path.name not in texts:  # of a function that is gone, or is called otherwise now
            path.unlink()
    for name, text in texts.items():
        (place / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(PLACE, files())
