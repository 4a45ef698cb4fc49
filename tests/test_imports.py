"""Imports go one way. The table is the architecture: a new edge is a line here, to be argued for in review.

Read from the sources, so imports inside functions count as well. Leaves (config, errors, runtime) are open to all of tcs;
`cache` by its public names, its errors and its digests.
"""

import ast
import graphlib
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PUBLIC_CACHE = frozenset({"cache", "cache.errors", "cache.fingerprint"})
LEAVES = PUBLIC_CACHE | {"tcs.config", "tcs.config_features", "tcs.errors", "tcs.runtime"}

# module -> what it may import beside LEAVES, without the prefix `tcs.`
TCS = {
    "errors": "",
    "config_features": "",
    "config": "",
    "runtime": "",
    # images and teacher
    "images": "",
    "image_list": "",
    "image_paths": "image_list",
    "image_folder": "image_list image_paths",
    "image_tar": "image_list image_paths",
    "image_table": "image_list",
    "png": "",
    "image_torch": "image_folder image_list png",
    "image_hfds": "image_list image_paths",
    "image_sources": "image_folder image_hfds image_list image_table image_tar image_torch",
    "readouts": "",
    "teacher_file": "",
    "teacher_layouts": "",
    "teacher_licence": "",
    "teacher_outputs": "",
    "teacher_preprocessing": "",
    "teacher_report": "",
    "teacher_hub": "teacher_file teacher_report",
    "teacher_source": "students.cifar teacher_file",
    "teacher_weights": "teacher_file teacher_hub teacher_layouts teacher_report",
    "projection": "axes moments",
    "teacher": "projection readouts teacher_file teacher_hub teacher_licence teacher_outputs teacher_preprocessing teacher_report"
    " teacher_source teacher_weights",
    "views": "",
    "inputs": "views",
    "decoding": "image_list images inputs",
    "cost": "decoding image_list teacher",
    "row_vectors": "",
    "gate": "probe row_vectors",
    "projections": "decoding projection teacher",
    "shard_rows": "decoding teacher",
    "heartbeat": "",
    "ranks": "heartbeat",
    "parts": "ranks",
    "extract": "cost decoding gate image_list image_sources inputs parts projections ranks shard_rows teacher views",
    # a store against its data, its teacher and itself
    "verification": "",
    "recorded": "",
    "drift": "image_list image_sources recorded",
    "recomputation": "decoding extract inputs image_list image_sources projection projections recorded teacher teacher_source",
    "repair": "extract gate recorded teacher_source verification",
    # coordinates and targets
    "artefact": "",
    "axes": "",
    "moments": "",
    "gram": "",
    "probe": "gram",
    "splits": "",
    "selection": "gram probe splits",
    "ceiling": "axes moments probe selection splits",
    "parentage": "",
    "coordinates": "axes moments parentage selection",
    "fit": "artefact ceiling coordinates moments parentage row_vectors selection splits",
    "hash_bits": "",
    "targets": "artefact coordinates hash_bits row_vectors",
    # training: no teacher, no extract
    "augmentation.policy": "",
    "augmentation.pixels": "",
    "augmentation.resampling": "",
    "augmentation.draws": "augmentation.policy",
    "augmentation.colour": "augmentation.pixels",
    "augmentation.erasing": "augmentation.draws augmentation.pixels",
    "augmentation.apply": "augmentation.colour augmentation.draws augmentation.erasing augmentation.pixels augmentation.policy "
    "augmentation.resampling",
    "augmentation.replay": "augmentation.apply augmentation.draws augmentation.policy views",
    "augmentation.mixing": "",
    "config_optimiser": "",
    "config_augment": "augmentation.policy",
    "config_train": "config_augment config_optimiser",
    "frozen_probe": "probe",
    "gates": "",
    "criteria.base": "functional.coordinates",
    "criteria.coordinates": "criteria.base functional.coordinates",
    "criteria.logits": "criteria.base functional.logits",
    "criteria.maps": "criteria.base functional.fusion functional.maps functional.regressors functional.vid",
    "criteria.relations": "criteria.base functional.regressors functional.relations",
    "criteria.memory": "criteria.base functional.crd functional.queue functional.regressors",
    "criteria.vectors": "criteria.base functional.mimicry functional.projector",
    "criteria.hashing": "criteria.base functional.lsh",
    "criteria.orthogonal": "criteria.base functional.orthogonal functional.vkd functional.whitening",
    "losses": "criteria.base criteria.coordinates criteria.hashing criteria.logits criteria.maps criteria.memory criteria.orthogonal "
    "criteria.relations criteria.vectors",
    "catalogue": "criteria.base losses methods",
    "checkpoint": "",
    "students.network": "",
    "students.mobilenet": "students.network",
    "students.resnet": "students.network",
    "students.shufflenet": "students.network",
    "students.vgg": "students.network",
    "students.wide_resnet": "students.network",
    "students.cifar": "students.mobilenet students.network students.resnet students.shufflenet students.vgg students.wide_resnet",
    "student": "gates students.cifar",
    "student_maps": "student",
    "methods": "losses",
    "interrupt": "",
    "training.rows": "",
    "training.batches": "",
    "training.free_memory": "",
    "training.images": "images training.free_memory",
    "training.given_images": "image_sources recorded training.images",
    "training.probe_start": "methods student",
    "source": "config_train coordinates functional.coordinates methods probe selection splits targets "
    "training.given_images training.images training.probe_start training.rows",
    "training.loading": "config_train frozen_probe methods source splits training.rows",
    "training.cached_views": "augmentation.replay config_augment config_train views",
    "training.feed": "augmentation.apply augmentation.draws augmentation.mixing augmentation.policy training.batches "
    "training.cached_views training.collectives training.images",
    "training.showing": "augmentation.apply augmentation.draws augmentation.mixing augmentation.policy config_augment config_train "
    "training.feed",
    "training.recipe": "config_augment config_optimiser losses methods training.batches",
    "training.optimisation": "config_optimiser criteria.base student",
    "training.step_rows": "augmentation.mixing criteria.base functional.coordinates student training.cached_views training.feed "
    "training.rows",
    "training.watch": "",
    "training.chance": "",
    "training.trainer": "augmentation.pixels criteria.base functional.coordinates gates losses probe student "
    "training.cached_views training.chance training.collectives training.feed training.optimisation training.probe_start training.recipe "
    "training.rows training.step_rows training.watch",
    "training.held_out": "",
    "training.monitor": "config_train probe",
    "training.refusals": "config_optimiser config_train losses methods training.optimisation training.showing",
    "training.jobs": "checkpoint config_train losses methods selection source splits student training.args training.cached_views "
    "training.held_out training.monitor training.probe_start training.refusals",
    "training.held_out_look": "source training.cached_views "
    "training.images training.jobs training.monitor training.showing training.trainer",
    "training.loop": "checkpoint interrupt training.collectives training.feed training.log training.trainer training.watch",
    "training.record": "checkpoint training.feed training.jobs training.log training.loop training.trainer training.watch",
    "training.stream": "config_augment config_optimiser config_train methods source student student_maps training.cached_views "
    "training.collectives training.feed training.held_out_look training.jobs training.loading training.loop training.recipe "
    "training.record training.rows training.showing training.trainer",
    "training.break_even": "",
    "training.forecast": "training.break_even training.feed training.jobs training.stream training.trainer",
    "training.memory": "config_train",
    "train": "config_train ranks source training.args training.collectives training.forecast training.jobs training.memory "
    "training.stream",
    "evaluate": "augmentation.pixels checkpoint probe splits student training.given_images training.images",
    "training.appended": "",
    "training.args": "",
    "training.metrics": "",
    "training.events": "training.appended training.metrics",
    "training.log": "checkpoint training.appended training.events training.metrics",
    "training.flat": "",
    "training.watched": "ranks",
    "training.collectives": "ranks training.flat training.watched",
    # few-shot grid and report
    "grid": "config_train losses methods",
    "ibm2": "functional.ibm2 functional.norms",
    "references": "evaluate ibm2 probe row_vectors",
    # the reference without a teacher: its self-supervised loss is a pure function, the pretraining of teachers stays away
    "view_pairs": "",
    "pixel_trainer": "checkpoint functional.contrast interrupt student training.batches training.optimisation training.recipe "
    "training.refusals view_pairs",
    "same_pixels": "checkpoint config_train methods pixel_trainer probe source splits student training.jobs training.recipe "
    "training.record training.rows training.stream",
    "fewshot": "checkpoint config_train evaluate grid references same_pixels source splits train "
    "training.given_images training.images training.showing",
    "intervals": "",
    # heads on compressed features, no student
    "config_probe": "",
    "linear_heads": "frozen_probe gram ibm2",
    "probed_stores": "config_probe evaluate gram linear_heads parentage row_vectors splits",
    "compression_folder": "artefact",
    "compression": "axes compression_folder config_probe gram linear_heads moments probed_stores selection splits",
    "compression_plot": "intervals plot",
    "compression_table": "compression compression_folder compression_plot intervals",
    "results": "intervals",
    "plot": "results",
    "report": "checkpoint intervals plot results",
    # pretraining and demo
    "digits": "",
    "simclr": "functional.contrast image_list images student",
    "pretrain": "checkpoint functional.contrast image_list simclr",
    "demo": "digits extract fewshot fit report targets",
    # published losses as pure functions: torch and tcs.errors
    "functional.coordinates": "functional.checks functional.precision",
    "functional.checks": "",
    "functional.precision": "",
    "functional.norms": "functional.checks functional.precision",
    "functional.logits": "functional.checks functional.precision",
    "functional.relations": "functional.checks functional.norms functional.precision",
    "functional.maps": "functional.checks functional.norms functional.precision",
    "functional.vid": "functional.checks functional.precision",
    "functional.regressors": "functional.norms",
    "functional.fusion": "functional.precision functional.regressors",
    "functional.composed": "functional.crd functional.fusion functional.maps functional.norms functional.precision "
    "functional.regressors functional.relations functional.vid",
    "functional.projector": "functional.checks functional.norms functional.precision functional.regressors",
    "functional.orthogonal": "functional.precision",
    "functional.whitening": "functional.precision",
    "functional.vkd": "functional.checks functional.norms functional.precision functional.regressors functional.whitening",
    "functional.lsh": "functional.checks functional.precision functional.regressors",
    "functional.crd": "functional.checks functional.norms functional.precision",
    "functional.rdimkd": "functional.checks functional.maps functional.precision functional.regressors",
    "functional.mimicry": "functional.checks functional.norms functional.precision functional.regressors",
    "functional.queue": "functional.checks functional.norms functional.precision functional.regressors",
    "functional.contrast": "functional.checks functional.norms functional.precision",
    "functional.ibm2": "functional.checks functional.norms functional.precision",
    "__main__": "cli",
    # command line: the stage, inside the command
    "cli.config_file": "",
    "cli.lazy_group": "",
    "store_facts": "",
    "cli.cache.info": "store_facts",
    "cli.cache.repair": "repair verification",
    "cli.cache.verify": "drift recomputation verification",
    "config_import": "",
    "feature_table": "config_import",
    "feature_parquet": "config_import feature_table",
    "parquet_export": "feature_parquet",
    "exchange": "config_import feature_parquet feature_table parquet_export",
    "cli.cache.export": "cli.cache.info exchange",
    "cli.cache.import_": "cli.cache.info config_import exchange",
    "cli.cache.merge": "cli.cache.info",
    "cli.cache.pack": "cli.cache.info",
    "cli.cache.subset": "cli.cache.info splits",
    "cli.cache.unpack": "cli.cache.info",
    "cli.demo": "demo",
    "cli.eval": "evaluate",
    "cli.extract": "store_facts extract",
    "cli.fewshot": "fewshot",
    "cli.fit": "fit",
    "cli.methods": "catalogue",
    "cli.probe": "compression compression_table config_probe",
    "cli.report": "report",
    "cli.targets": "targets",
    "cli.train_options": "augmentation.policy config_optimiser config_train",
    "cli.train": "cli.config_file cli.train_options config_train train",
}

# module -> what it may import, without the prefix `cache.`
CACHE = {
    "errors": "",
    "fingerprint": "",
    "fields": "errors",
    "files": "errors",
    "constants": "errors fields",
    "schema": "constants errors fields fingerprint",
    "comparison": "errors fields fingerprint schema",
    "manifest": "errors fields files schema",
    "layout": "",
    "shard": "errors fields fingerprint layout manifest schema",
    "extents": "errors fields files fingerprint layout schema shard",
    "inspection": "errors extents fields files fingerprint layout manifest schema shard",
    "behind": "shard",
    "folder": "errors files manifest schema",
    "mapped": "extents",
    "features": "errors extents mapped schema",
    "repair": "comparison errors files fingerprint folder inspection manifest schema",
    "packed": "errors extents fields fingerprint inspection manifest schema shard",
    "verdict": "fingerprint manifest schema",
    "verification": "errors fingerprint inspection manifest packed schema shard verdict",
    "reader": "errors features fingerprint inspection manifest packed schema",
    "skeleton": "layout shard",
    "streamed": "errors files",
    "packing": "errors files inspection manifest packed reader shard skeleton streamed writer",
    "derivation": "errors features fingerprint inspection manifest packed reader schema shard writer",
    "creation": "errors fields fingerprint schema shard writer",
    "exporting": "derivation errors files folder reader schema streamed",
    "merging": "comparison creation derivation errors fields fingerprint reader schema",
    "subsetting": "derivation errors fields reader schema",
    "standing": "files fingerprint inspection manifest schema shard",
    "part": "errors inspection manifest schema shard standing",
    "writer": "comparison errors fields files fingerprint folder manifest part repair schema shard standing",
}
PACKAGES = {  # the packages themselves: `import cache`, `import tcs`, `import tcs.cli`
    "cache": {f"cache.{name}" for name in CACHE},
    "tcs": set(),
    "tcs.cli": {"cache", "cache.errors", "tcs", "tcs.cli.lazy_group", "tcs.errors", "tcs.runtime"},
    "tcs.augmentation": set(),
    "tcs.cli.cache": {"tcs.cli.lazy_group"},
    "tcs.functional": set(),
    "tcs.criteria": set(),
    "tcs.students": {"tcs.students.cifar"},
    "tcs.training": set(),
}


def allowed_edges():
    edges = {f"tcs.{name}": {f"tcs.{edge}" for edge in row.split()} | LEAVES for name, row in TCS.items()}
    edges["tcs.runtime"] = {"tcs.errors"}
    edges["tcs.config_features"] = {"tcs.errors"}
    edges["tcs.config"] = {"tcs.config_features", "tcs.errors"}
    edges["tcs.errors"] = set()
    return (
        edges | {f"cache.{name}": {f"cache.{edge}" for edge in row.split()} for name, row in CACHE.items()} | PACKAGES
    )


def sources():
    paths = [
        path
        for package in (
            "cache",
            "tcs",
            "tcs/augmentation",
            "tcs/cli",
            "tcs/cli/cache",
            "tcs/criteria",
            "tcs/functional",
            "tcs/students",
            "tcs/training",
        )
        for path in sorted((ROOT / package).glob("*.py"))
    ]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imported(tree, top_only=False):
    """Dotted names that a module imports; `from a import b` gives a and a.b, of which at most one is a module."""
    names = set()
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def edges_of(text, modules, name):
    """Internal modules that the source text imports: `from tcs.a import b` is an edge to tcs.a, not to tcs."""
    names = imported(ast.parse(text))
    found = {edge for edge in names if edge in modules and edge != name}
    packages = {
        "tcs",
        "tcs.augmentation",
        "tcs.cli",
        "tcs.cli.cache",
        "tcs.criteria",
        "tcs.functional",
        "tcs.students",
        "tcs.training",
        "cache",
    } & found
    plain = {
        edge
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import)
        for edge in [a.name for a in node.names]
    }
    return {edge for edge in found if edge not in packages or edge in plain or edge == "cache"} - {
        name.partition(".")[0]
    }


@pytest.mark.parametrize("name", sorted(sources()))
def test_no_edge_outside_the_table(name):
    modules = sources()
    allowed = allowed_edges()
    assert name in allowed, f"{name} is new: give it a row in the table of tests/test_imports.py"
    odd = edges_of(modules[name].read_text(), modules, name) - allowed[name]
    assert not odd, f"{name} imports {sorted(odd)}; if that is right, say so in the table of tests/test_imports.py"


def test_table_names_only_modules_that_exist():
    assert set(allowed_edges()) == set(sources())


def test_table_has_no_cycle():
    order = list(graphlib.TopologicalSorter(allowed_edges()).static_order())
    assert order.index("cache") < order.index("tcs.train") < order.index("tcs.demo")


def test_training_reaches_no_teacher_by_the_table():
    edges, reached, todo = allowed_edges(), set(), ["tcs.train", "tcs.fewshot", "tcs.evaluate", "tcs.compression"]
    while todo:
        module = todo.pop()
        reached.add(module)
        todo += edges[module] - reached
    pretraining = {"tcs.simclr", "tcs.pretrain"}
    assert not reached & {"tcs.teacher", "tcs.teacher_weights", "tcs.readouts", "tcs.extract", *pretraining}


@pytest.mark.parametrize(
    ("text", "edge"),
    [
        ("from tcs.teacher import load_teacher\n", "tcs.teacher"),
        ("def f():\n    from tcs import teacher\n", "tcs.teacher"),
        ("import tcs.extract as e\n", "tcs.extract"),
        ("from cache.files import atomic_write_bytes\n", "cache.files"),
    ],
)
def test_forbidden_edge_is_seen_however_it_is_written(text, edge):
    assert edge in edges_of(text, sources(), "tcs.train") - allowed_edges()["tcs.train"]


@pytest.mark.parametrize("name", sorted(name for name in sources() if name.startswith("cache")))
def test_cache_needs_only_numpy_and_h5py(name):
    roots = {edge.partition(".")[0] for edge in imported(ast.parse(sources()[name].read_text()))}
    assert roots <= sys.stdlib_module_names | {"cache", "numpy", "h5py"}


@pytest.mark.parametrize("name", sorted(name for name in sources() if name.startswith("tcs.functional")))
def test_functional_losses_need_only_torch_and_the_errors(name):
    foreign = {
        edge
        for edge in imported(ast.parse(sources()[name].read_text()))
        if not edge.startswith(("tcs.functional", "tcs.errors"))
    }
    assert {edge.partition(".")[0] for edge in foreign} <= sys.stdlib_module_names | {"torch"}


@pytest.mark.parametrize("name", sorted(name for name in sources() if name.startswith("tcs.cli")))
def test_command_line_modules_are_light_until_called(name):
    top = imported(ast.parse(sources()[name].read_text()), top_only=True)
    light = {edge for edge in top if edge.partition(".")[0] in sys.stdlib_module_names | {"click"}}
    pure = ("tcs.config", "tcs.errors", "tcs.augmentation.policy")  # the standard library and each other
    ours = ("tcs.cli.config_file", "tcs.cli.lazy_group", "tcs.cli.train_options")
    assert all(edge.startswith((*pure, *ours)) or edge in ("tcs", "tcs.cli") for edge in top - light)


def loaded_after(statement):
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_training_loads_neither_teacher_nor_faiss():
    loaded = loaded_after("import tcs.train, tcs.fewshot, tcs.evaluate, tcs.compression")
    assert "tcs.training.trainer" in loaded
    assert not loaded & {"tcs.teacher", "tcs.teacher_weights", "tcs.extract", "tcs.simclr", "tcs.pretrain", "faiss"}


def test_store_loads_neither_tcs_nor_torch():
    assert not loaded_after("import cache") & {"tcs", "torch", "timm", "faiss", "PIL"}


def test_help_loads_nothing_heavy():
    statement = "from tcs.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass"
    assert not loaded_after(statement) & {"torch", "timm", "sklearn", "faiss"}
