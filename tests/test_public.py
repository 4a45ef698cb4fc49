"""What `import tcs` and `import cache` offer: one list, one table, no surprise; every command as a function."""

import ast
import dataclasses
import doctest
import importlib
import inspect
import pathlib
import pkgutil
import pydoc
import re

import pytest
from artefacts import SIZE, make_store, make_targets, save_vit

import cache
import tcs
from tcs import errors
from tcs.cli import COMMANDS
from tcs.cli.cache import SUBCOMMANDS
from tcs.config.optimiser import OptimiserConfig

ROOT = pathlib.Path(__file__).parent.parent
TEACHER = 'teacher="test_vit", teacher_checkpoint="w.safetensors", teacher_kwargs={"img_size": 16}, workers=0'
STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"

# command -> its functions
FUNCTIONS = {
    "distill": (tcs.distill,),
    "pretrain": (tcs.pretrain,),
    "extract": (tcs.extract,),
    "fit": (tcs.fit,),
    "targets": (tcs.fit_targets,),
    "train": (tcs.train, tcs.forecast),
    "eval": (tcs.evaluate,),
    "predict": (tcs.predict,),
    "export": (tcs.export_students,),
    "latency": (tcs.measure_latency,),
    "suggest": (tcs.suggest,),
    "audit": (tcs.audit,),
    "look": (tcs.look,),
    "probe": (tcs.probe, tcs.compare_teachers),
    "fewshot": (tcs.fewshot,),
    "report": (tcs.write_report,),
    "demo": (tcs.demo,),
    "doctor": (tcs.diagnose,),
    "verify": (tcs.verify,),
    "methods": (tcs.loss_facts, tcs.method_facts, tcs.other_facts),
    "cache info": (tcs.store_facts,),
    "cache verify": (cache.verify, tcs.measure_drift, tcs.recompute),
    "cache label": (tcs.label_store, cache.set_labels),
    "cache update": (tcs.update,),
    "cache repair": (tcs.repair,),
    "cache pack": (cache.pack,),
    "cache merge": (cache.merge,),
    "cache subset": (cache.subset,),
    "cache import": (tcs.import_features,),
    "cache export": (tcs.export_features,),
    "cache unpack": (cache.unpack,),
}


def modules_of(package):
    return {module.name for module in pkgutil.iter_modules(package.__path__)}


def test_every_public_name_is_where_the_table_says():
    for name, module in tcs.MODULE_OF.items():
        assert getattr(tcs, name) is getattr(importlib.import_module(module), name)
        assert getattr(tcs, name).__module__ == module
        assert inspect.getdoc(getattr(tcs, name))


def test_type_checkers_are_told_the_same():
    tree = ast.parse(pathlib.Path(tcs.__file__).read_text())
    told = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module != "tcs"
        for alias in node.names
        if alias.asname == alias.name
    }
    assert told == tcs.MODULE_OF
    assert tcs.__all__ == list(tcs.MODULE_OF)


def test_no_public_name_is_a_modules_which_its_import_would_overwrite():
    assert not set(tcs.__all__) & modules_of(tcs)
    assert set(cache.__all__) & modules_of(cache) == {"errors"}


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'tcs' has no attribute 'fits'; dir\(tcs\) lists what it has"):
        tcs.fits  # noqa: B018
    assert set(tcs.__all__) <= set(dir(tcs))


def test_every_command_has_its_functions():
    commands = {*COMMANDS} - {"cache", "help"} | {f"cache {name}" for name in SUBCOMMANDS}
    assert set(FUNCTIONS) == commands
    for function in sum(FUNCTIONS.values(), ()):
        package = importlib.import_module(function.__module__.partition(".")[0])
        assert function.__name__ in package.__all__
        for parameter in inspect.signature(inspect.unwrap(function)).parameters.values():
            if dataclasses.is_dataclass(parameter.annotation) and parameter.name == "config":
                assert parameter.annotation.__name__ in tcs.__all__


def test_the_table_of_the_page_has_every_command_with_its_functions():
    page = (ROOT / "docs" / "reference" / "python.md").read_text()
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| `tcs ")]
    shown = "\n".join(row[1].replace("`, `", "`, `tcs cache " if " cache " in row[1] else "`, `") for row in rows)
    functions = set(re.findall(r"`((?:tcs|cache)\.\w+)[`(]", "\n".join(row[2] for row in rows)))
    assert [command for command in FUNCTIONS if f"`tcs {command}" not in shown] == []
    named = {f"{function.__module__.partition('.')[0]}.{function.__name__}" for function in sum(FUNCTIONS.values(), ())}
    assert named - functions == set()


def test_every_error_is_public():
    kinds = {
        name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.TcsError)
    }
    assert kinds == {name for name in tcs.__all__ if name.endswith("Error")}


def test_cache_lists_what_it_exports():
    tree = ast.parse(pathlib.Path(cache.__file__).read_text())
    imported = [alias.asname for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(imported) == sorted(cache.__all__)


def test_help_of_cache_has_an_example_that_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(cache)
    assert found.failed == 0
    assert found.attempted == 6


def on_one_line(text):
    """Python 3.13 shows long signatures an option a line."""
    return " ".join(text.split()).replace("( ", "(")


def test_help_of_tcs_lists_functions_and_configurations():
    text = on_one_line(pydoc.plain(pydoc.render_doc(tcs)))
    for line in (
        "extract(data: str | os.PathLike[str], *, out: str | os.PathLike[str], readouts: tuple[str, ...] = ('avg',)",
        "class TrainConfig(",
        "class ConfigError(",
    ):
        assert line in text


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with stores and a recipe in it; all paths are relative to it."""
    monkeypatch.chdir(tmp_path)
    make_store(tmp_path / "train.store")
    make_store(tmp_path / "test.store", seed=9, rows=30)
    return tmp_path


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def test_the_chain_of_the_page_runs(tmp_path, monkeypatch, capsys):
    """The code of docs/reference/python.md as it stands, on tiny images, with a tiny teacher and student in place of those named there."""
    monkeypatch.chdir(tmp_path)
    for part, seed in (("train", 0), ("test", 9)):
        write_images(tmp_path / "my" / part, seed)
    save_vit(tmp_path / "w.safetensors", SIZE)
    recipe = f"""
        train: train.store
        test: test.store
        targets: t.h5
        students: ['{STUDENT}']
        methods: [labels]
        shots: [2]
        seeds: [0]
        unlabelled: [none]
        references: [teacher-probe]
        options: {{img_size: 16, steps: 2, batch_size: 8}}
    """
    (tmp_path / "recipe.yaml").write_text(inspect.cleandoc(recipe))
    text = next(block for block in blocks("docs/reference/python.md") if "tcs.train(" in block)
    for there, here in (
        ('teacher="vit_small_patch14_dinov2.lvd142m"', TEACHER),
        ('readouts=("cls",),\n        img_size=224', 'readouts=("cls",), img_size=16'),
        ('"models": ("resnet18",)', f'"models": ("{STUDENT}",)'),
        ('"shots": 16,', '"shots": 2, "batch_size": 8,'),
        ('"img_size": 224,\n        "steps": 2000,', '"img_size": 16, "steps": 2,'),
        ('shots=16, projections=("pca",)', 'shots=2, projections=("pca",)'),
    ):
        assert text.count(there) == 1
        text = text.replace(there, here)
    names = {}
    exec(compile(text, "docs/reference/python.md", "exec"), names)
    assert names["system"].components == 64
    assert names["failed"] == 0
    assert names["z_nK"].shape == (2, 64)
    assert [path.name for path in tmp_path.glob("grid/*.md")] == ["report.md"]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "64 coordinates of 64 dims"
    assert printed[-1] == "grid/report.md"


def write_images(folder, seed):
    store = make_store(folder.parent / f"{folder.name}.images", seed=seed, rows=24)
    for row, key in enumerate(store.keys):
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.image_bytes(row))


def test_paths_may_be_paths(folder):
    """What the texts of the same paths made is found finished: the records of both are the same."""
    train, out = folder / "train.store", folder / "c.safetensors"
    made = tcs.fit(str(train), out=str(out), components=4)
    assert tcs.fit(train, out=out, components=4).config == made.config
    targets = tcs.fit_targets(train, out, out=folder / "t.h5", bits=32)
    assert len(tcs.open_targets(targets).z_NK) == 60
    assert tcs.fit_targets(str(train), str(out), out=str(targets), bits=32) == targets
    config = tcs.TrainConfig(
        store=train, targets=targets, out=folder / "run", models=(STUDENT,), shots=2, unlabelled=9, steps=1
    )
    assert (config.store, config.unlabelled) == (str(train), "9")
    assert tcs.ImportConfig(out=folder, features={"avg": folder / "a.npy"}).features == {"avg": str(folder / "a.npy")}
    assert tcs.export_features(train, folder / "arrays") == folder / "arrays"
    assert tcs.import_features(tcs.ImportConfig(source=folder / "arrays", out=folder / "again.store")).is_dir()
    assert tcs.FewshotConfig(recipe=folder / "r.yaml", out=folder).recipe == str(folder / "r.yaml")


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (tcs.TrainConfig, {"store": "x", "out": "y", "models": "resnet18"}),
        (OptimiserConfig, {"freeze": "backbone"}),
        (tcs.EvalConfig, {"run": "x", "store": "y", "models": "resnet18"}),
        (tcs.ProbeConfig, {"store": "x", "test": "y", "projections": "pca"}),
        (tcs.ExtractConfig, {"data": "x", "out": "y", "teacher": "z", "readouts": "avg"}),
        (tcs.ImportConfig, {"source": "x", "out": "y", "readouts": pathlib.Path("avg")}),
    ],
)
def test_one_text_is_not_taken_for_several(config, options):
    name, value = list(options.items())[-1]
    with pytest.raises(
        tcs.ConfigError, match=rf"^{name} is '{value}', a single one; it must be a tuple or list, as \['{value}'\]\.$"
    ):
        config(**options)


def test_a_dry_run_from_python_writes_nothing(folder, capsys):
    config = tcs.TrainConfig(
        store="train.store", out="run", models=(STUDENT,), img_size=16, batch_size=8, shots=2, steps=2, dry_run=True
    )
    (student,) = tcs.train(config)
    assert student.parent == pathlib.Path("run")
    assert not pathlib.Path("run").exists()
    assert "Nothing was written." in capsys.readouterr().err


def test_probe_writes_its_table_and_report_its_page(folder):
    result = tcs.probe(
        tcs.ProbeConfig(store="train.store", test="test.store", dims=(4,), seeds=(0,), projections=("pca",), out="out")
    )
    assert len(result.rows) == 2
    assert {path.name for path in pathlib.Path("out").iterdir()} == {
        "probe.json",
        "compression.csv",
        "compression.md",
        "compression.png",
    }


def test_a_student_is_loaded_by_the_text_of_its_path(folder):
    make_targets(folder)
    config = tcs.TrainConfig(
        store="train.store", out="run", models=(STUDENT,), img_size=16, batch_size=8, shots=2, steps=1
    )
    (student,) = tcs.train(config)
    assert tcs.load_student(str(student)).record["state"] == "finished"
    with pytest.raises(tcs.ArtefactError, match="no-such"):
        tcs.load_student("run/no-such")
