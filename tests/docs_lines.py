"""What of the pages is not run in tests, line by line and block by block, and why: all else is (tests/test_docs_run.py)."""

# page -> beginning of a line of shell -> why it is not run. Its options are parsed all the same (tests/test_docs_commands.py).
NOT_RUN: dict[str, dict[str, str]] = {
    "README.md": {
        "make demo": "two minutes: `tcs demo` is run as released, before each release (RELEASING.md)",
        "make test": "is what runs this",
    },
    "docs/how-to/distributed.md": {
        "head=$(scontrol": "SLURM, two machines",
        "srun ": "SLURM, two machines, four GPUs on each",
    },
    "docs/how-to/labelling.md": {"(cat round1.csv": "tests/test_label_file.py"},
    "docs/how-to/offline.md": {
        "python -c": "network: published weights",
        "pip wheel": "tests/test_wheel.py",
        "pip install": "tests/test_wheel.py installs from such a folder",
    },
    "docs/how-to/predict.md": {
        "tcs eval student.onnx hfds/food101": "network: a data set of the Hub; tests/test_image_hfds.py reads one from a folder",
    },
    "docs/start/first-student.md": {"(cat labels.csv": "tests/test_label_file.py"},
    "docs/start/install.md": {
        "python -m venv": "a new environment: tests/test_wheel.py",
        ". .venv/bin/activate": "a new environment: tests/test_wheel.py",
        "pip install": "network: gigabytes",
        "tcs demo": "two minutes: run as released, before each release (RELEASING.md)",
    },
}

# page -> beginning of a block of Python -> the test that runs it
PYTHON_ELSEWHERE: dict[str, dict[str, str]] = {
    "docs/how-to/add-method.md": {"import torch": "tests/test_grid_datasets.py"},
    "docs/how-to/predict.md": {"import json": "tests/test_readme.py"},
    "docs/how-to/store.md": {
        "import cache\n\njoined": "tests/test_docs_python.py",
        "import cache\nimport numpy": "tests/test_docs_python.py",
    },
    "docs/how-to/training.md": {"import timm": "tests/test_docs_python.py"},
    "docs/how-to/watching.md": {"import cache": "tests/test_docs_python.py"},
    "docs/reference/methods.md": dict.fromkeys(
        (
            "import torch",
            "from tcs.functional import crd_step",
            "from tcs.functional import reviewkd",
            "from tcs.criteria",
        ),
        "tests/test_docs_python.py",
    ),
    "docs/reference/python.md": {
        "import cache\nimport tcs": "tests/test_first_lines.py",
        "import pathlib": "tests/test_public.py",
    },
    "docs/reference/run-files.md": {"import pathlib": "tests/test_docs_python.py"},
}

# page -> beginning of a block that is neither shell nor Python -> why it is not run. Blocks of the language `text` need no reason.
LISTINGS: dict[str, dict[str, str]] = {
    "docs/how-to/add-method.md": {"# recipe.yaml\nmethods:": "part of a recipe"},
    "docs/how-to/benchmark.md": {"train: train.store": "a recipe: tests/test_docs_commands.py plans its cells"},
    "docs/how-to/deploy.md": {"const session": "JavaScript: needs a browser, and the page says that it is not run"},
    "docs/how-to/distill.md": {"path,class": "a table of labels"},
    "docs/how-to/labelling.md": {"key,rank,reason,class": "a table that a command writes"},
    "docs/how-to/predict.md": {"path,class,probability": "a table that a command writes"},
    "docs/how-to/teachers.md": {"weights moco.pth": "lines that a command tells"},
    "docs/reference/data.md": {"2 files .heic left out": "lines that a command tells"},
    "docs/reference/run-files.md": {
        "store: train.store": "a file of options: tests/docs_world.py writes it for the page's commands"
    },
}
SIGNATURES = "docs/reference/methods.md"  # its other blocks: tests/test_docs_python.py compares them with the functions
