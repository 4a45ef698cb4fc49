"""Completion in a shell: the values of options, told fast and without torch."""

import json
import os
import subprocess
import sys

import pytest
import timm
from click.shell_completion import ShellComplete

from tcs.cli import group
from tcs.cli.completion import NAMES, timm_names
from tcs.criteria.losses import LOSSES
from tcs.methods.catalogue import other_facts
from tcs.methods.named import METHODS
from tcs.students.zoo.cifar import STUDENTS, register

# A module that must not be loaded ends the process that answers bash.
ANSWER = """
import sys
sys.modules["torch"] = None
from tcs.cli import main
main()
"""


def completed(line: str) -> list[str]:
    """The values for the last word of `line`, which is what comes after its last blank."""
    _, *words, last = line.split(" ")
    return [item.value for item in ShellComplete(group, {}, "tcs", "_TCS_COMPLETE").get_completions(words, last)]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("tcs train x.store --method tcs-probe", "plain,tcs-probe\nplain,tcs-probe+elsh\n"),
        ("tcs distill photos --model mobilenetv3_small_05", "plain,mobilenetv3_small_050\n"),
    ],
)
def test_bash_is_answered_without_torch(line: str, told: str) -> None:
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_TCS_COMPLETE": "bash_complete"}
    environment = {**os.environ, **asked}
    done = subprocess.run([sys.executable, "-c", ANSWER], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (told, "")


def test_names_are_those_of_the_tables() -> None:
    told = {
        "losses": sorted(LOSSES),
        "methods": sorted(METHODS),
        "others": sorted(fact["name"] for fact in other_facts()),
        "students": sorted(STUDENTS),
    }
    assert json.loads(NAMES.read_text()) == told, f"embedded/names.json is to be {json.dumps(told)}"


def test_names_of_timm_are_those_it_registers() -> None:
    register()
    assert sorted([*timm_names(), *STUDENTS]) == sorted(timm.list_models())


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("tcs pre", ["pretrain", "predict"]),
        ("tcs cache ve", ["verify"]),
        ("tcs train x.store --method tcs-probe", ["tcs-probe", "tcs-probe+elsh"]),
        ("tcs distill photos --method rdimkd-", ["rdimkd-a", "rdimkd-p", "rdimkd-r"]),
        ("tcs train x.store --loss dk", ["dkd"]),
        ("tcs train x.store --loss ce+0.5*dk", ["ce+0.5*dkd"]),
        ("tcs train x.store --model cifar_resnet8", ["cifar_resnet8", "cifar_resnet8x4"]),
        ("tcs distill photos --model mobilenetv3_small_0", ["mobilenetv3_small_050", "mobilenetv3_small_075"]),
        ("tcs extract photos --teacher vit_small_patch14_dinov", ["vit_small_patch14_dinov2"]),
        ("tcs latency run --against vit_small_patch14_dinov", ["vit_small_patch14_dinov2"]),
        ("tcs distill photos --export t", ["timm", "torch-export"]),
        ("tcs export run --to t", ["timm", "torch-export"]),
        ("tcs train x.store --head l", ["linear"]),
        ("tcs methods rkd-", ["rkd-angle", "rkd-distance"]),
        ("tcs predict --top", ["--topk"]),
    ],
)
def test_values_of_options(line: str, values: list[str]) -> None:
    assert completed(line) == values
