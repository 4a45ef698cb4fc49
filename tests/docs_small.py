"""How a page's commands and Python are run in tests: what would take the network, a GPU or hours is replaced, by these tables alone."""

from tcs.demonstration.demo import teacher_card

STUDENT = "test_efficientnet"
A_SECOND, A_THIRD, A_FOURTH = "test_resnet", "test_byobnet", "test_convnext"
READOUT = "pool"  # of the embedded teacher, the only one
SIDE = "32"  # of students' images
# word of a command -> what stands there instead
WORDS = {
    "resnet18": STUDENT,
    "mobilenetv3_small_100": A_SECOND,
    "efficientnet_lite0": A_THIRD,
    "vit_tiny_patch16_224,drop_path_rate=0.1": f"{A_FOURTH},drop_path_rate=0.1",
    "vit_small_patch14_dinov2.lvd142m,img_size=224": "test_vit,img_size=32",
    "tf_efficientnet_lite0,img_size=128": "test_vit,img_size=32",
    "run/resnet18": f"run/{STUDENT}",
    "cuda": "cpu",
    "16": "2",  # labels a class
    "DATA": "my/train",
}
# option -> its value, where the option stands
SMALLER = {
    "--n": "8",
    "--components": "8",
    "--student-img-size": SIDE,
    "--student-batch-size": "8",
    "--dims": "8",
    "--jobs": "1",
    "--readout": READOUT,
    "-b": "8",
}
# command -> options that are replaced where they stand, and given where they do not
STEPS = {"--steps": "4"}
GIVEN: dict[str, dict[str, str]] = {
    "extract": {"-j": "0"},
    "distill": STEPS | {"--student-img-size": SIDE, "--student-batch-size": "8", "--held-out": "0", "-j": "0"},
    "train": STEPS | {"--img-size": SIDE, "--batch-size": "8", "--held-out": "0"},
    "pretrain": {"--model": STUDENT, "--img-size": SIDE, "--epochs": "1", "-b": "8", "-j": "0"},
    "latency": {"--seconds": "0.01", "--threads": "1", "--batch-size": "2"},
}
PUBLISHED = {"--pretrained": 0}  # weights: left out
OF_THE_TEACHER = {"--teacher": 1, "--teacher-checkpoint": 1, "--readout": 1, "--img-size": 1, "--mean": 3, "--std": 3}
OF_THE_READER = "mine:teacher"  # a teacher that a page itself makes

_CARD, _WEIGHTS = teacher_card()
_TEACHER = {name: _CARD[name] for name in ("teacher", "teacher_kwargs", "img_size", "mean", "std")} | {
    "teacher_checkpoint": str(_WEIGHTS),
    "readouts": (READOUT,),
}
_STUDENT = {"steps": 4, "student_img_size": 32, "student_batch_size": 8, "held_out": 0, "workers": 0}
# page -> text in its blocks of Python -> what stands there instead
PYTHON: dict[str, dict[str, str]] = {
    "docs/how-to/distill.md": {
        '"teacher": "vit_small_patch14_dinov2.lvd142m"': f"**{_TEACHER | {'img_size': 48}!r}, **{_STUDENT!r}",
        '("resnet18",), "pretrained": True': f"({STUDENT!r},)",
    },
    "docs/how-to/features.md": {'"cls"': repr(READOUT)},
    "docs/how-to/store.md": {
        'features("avg")': f"features({READOUT!r})",
        'features["avg"]': f"features[{READOUT!r}]",
    },
    "docs/how-to/students.md": {"num_classes=10": "num_classes=3"},
    "docs/start/first-student.md": {
        '{"teacher": "tf_efficientnet_lite0.in1k", "img_size": 128}': repr(_TEACHER),
        '("mobilenetv3_small_100",), "pretrained": True': f"({A_SECOND!r},)",
        '"student_img_size": 128, "steps": 300': f"**{_STUDENT!r}",
    },
}


def small(words: list[str]) -> list[str]:
    """The command as it is run here."""
    is_given_a_teacher = "--teacher" in words and words[0] in ("extract", "distill") and OF_THE_READER not in words
    side = "48" if any("vit_" in word for word in words) else "32"
    given = GIVEN.get(words[0], {})
    words = without(words, PUBLISHED | dict.fromkeys(given, 1) | (OF_THE_TEACHER if is_given_a_teacher else {}))
    words = [SMALLER.get(before, WORDS.get(word, word)) for before, word in zip(["", *words], words, strict=False)]
    return [
        *words,
        *(embedded_teacher(side) if is_given_a_teacher else []),
        *(word for item in given.items() for word in item),
    ]


def embedded_teacher(side: str) -> list[str]:
    """Options of the teacher that is part of the package; on images of another side it is another teacher."""
    card, weights = teacher_card()
    words = ["--teacher", card["teacher"], "--teacher-checkpoint", str(weights), "--readout", card["readout"]]
    words += ["--img-size", side, "--mean", *map(str, card["mean"]), "--std", *map(str, card["std"])]
    return words + [
        word for name, value in card["teacher_kwargs"].items() for word in ("--teacher-kwargs", f"{name}={value}")
    ]


def without(words: list[str], options: dict[str, int]) -> list[str]:
    """The words without these options and as many values as each has."""
    kept: list[str] = []
    left = 0
    for word in words:
        if word in options:
            left = options[word]
        elif left:
            left -= 1
        else:
            kept.append(word)
    return kept


def small_python(page: str, block: str) -> str:
    """The block as it is run here."""
    for there, here in PYTHON.get(page, {}).items():
        block = block.replace(there, here)
    return block
