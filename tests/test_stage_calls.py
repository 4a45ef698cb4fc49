"""Stages called by options: the same as by a configuration, in names that the commands have, and one line for what is no option."""

import dataclasses
import importlib.util
import inspect
import pathlib
import pydoc
import re
import runpy
import typing
from typing import Any

import click
import pytest

import tcs
from tcs.cli import COMMANDS, group
from tcs.config.distill_options import DistillOptions
from tcs.config.stage import in_python, takes
from tcs.config.train import PARTS, TrainOptions, option_defaults

ROOT = pathlib.Path(__file__).parent.parent


def load_stages() -> dict[str, Any]:
    """The names of scripts/make_stages.py, which imports a script beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        return runpy.run_path(str(ROOT / "scripts" / "make_stages.py"))


MADE = load_stages()
TWICE = "probe"  # its command takes one store or several; as several it is compare_teachers
COMMAND_OF = {name: command for name, (_, command) in MADE["STAGES"].items() if name != TWICE}


def decorated() -> list[str]:
    return [name for name in tcs.__all__ if hasattr(getattr(tcs, name), "__wrapped__")]


def click_command(words: str) -> click.Command:
    command: Any = group
    for word in words.split():
        command = command.get_command(click.Context(command), word)
    return command


def click_options(words: str) -> list[click.Parameter]:
    return [each for each in click_command(words).params if isinstance(each, click.Option)]


def by_place(stage: Any) -> list[str]:
    parameters = inspect.signature(stage).parameters.values()
    return [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]


def load_script() -> Any:
    spec = importlib.util.spec_from_file_location("make_distill_options", ROOT / "scripts" / "make_distill_options.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclasses.dataclass(frozen=True, kw_only=True)
class Small:
    """A configuration."""

    store: str = dataclasses.field(kw_only=False)
    out: str
    steps: int = 3


def run_small(config: Small, also: int = 0) -> tuple[Small, int]:
    return config, also


@takes(run_small, Small)
def small(*given: Any, **named: Any) -> Any:
    """What it was given."""


def test_options_and_a_configuration_are_the_same() -> None:
    config = Small("a", out="b")
    assert small("a", out="b") == small(store="a", out="b") == small(config) == small(config=config) == (config, 0)
    assert small(config, also=2) == (config, 2)
    assert small(pathlib.Path("a"), out="b", steps=4)[0].steps == 4


@pytest.mark.parametrize(
    ("given", "named", "message"),
    [
        (("a",), {"out": "b", "step": 3}, r"tcs\.small has no option 'step'\. Did you mean steps.*\? help\(tcs\.small\) lists them\."),
        (("a",), {"also": 3, "out": "b"}, r"tcs\.small has no option 'also'\."),
        (("a", "b"), {}, r"tcs\.small takes store by place and all other options by name; 2 are given: write out='b'\."),
        (("a",), {"store": "b", "out": "c"}, r"tcs\.small is given 'store' twice, by place and by name; leave one of them out\."),
        (("a",), {}, r"tcs\.small needs out too; give it by name, or a tcs\.Small that has it\."),
        ((), {}, r"tcs\.small needs store, out too; give them by name"),
        ((Small("a", out="b"),), {"out": "c"}, r"tcs\.small takes only also beside a configuration, and is given 'out'; data"),
        ((Small("a", out="b"), 1, 2), {}, r"tcs\.small takes only also beside a configuration, and is given 2 by place; leave"),
        ((3,), {}, r"config is 3; it must be a Small: write tcs\.Small\(\.\.\.\) for it\."),
        ((tcs.AuditConfig("a"),), {"out": "c"}, r"config is AuditConfig\(.*\); it must be a Small: write tcs\.Small\(\.\.\.\) for it\."),
    ],
)  # fmt: skip
def test_what_is_no_option_is_told_in_one_line(given: Any, named: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message) as caught:
        small(*given, **named)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", decorated())
def test_errors_name_options_as_python_does(name: str) -> None:
    """Every option of the function by what its command calls it: by the parameter of that name, or the flag of one."""
    options = inspect.signature(getattr(tcs, name)).parameters
    shown = click_options(MADE["STAGES"][name][1])
    for field in sorted(set(options) - set(by_place(getattr(tcs, name)))):
        written = f"--{field.removesuffix('s') if name == 'compare_teachers' else field}".replace("_", "-")
        by_name = [each for each in shown if each.name == field] or [each for each in shown if written in each.opts]
        for flag in [flag for each in by_name for flag in each.opts if flag.startswith("--")]:
            assert in_python(f"{flag} is 3; leave out {flag}.", name, options) == f"{field} is 3; leave out {field}."


def test_an_option_is_told_by_its_name_in_python_and_a_command_as_it_is_typed() -> None:
    options = ("out", "img_size", "models", "channels_last")
    for text, there in {
        "--img-size is 3": "img_size is 3",
        "give --model, or --no-channels-last.": "give models, or channels_last=False.",
        "run tcs fit a.store --out b, then --out c": "run tcs fit a.store --out b, then out c",
        "leave --out out; tcs extract ... --out x. Or --out y": "leave out out; tcs extract ... --out x. Or out y",
        "folder/--out and '--out' of pip --upgrade": "folder/--out and '--out' of pip --upgrade",
    }.items():
        assert in_python(text, "train", options) == there


def test_the_error_of_a_stage_is_the_same_but_for_its_words() -> None:
    with pytest.raises(
        tcs.ConfigError, match=r"^teacher is missing; name one, or give the teacher_card of one\.$"
    ) as caught:
        tcs.extract("photos", out="x.store")
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert [entry.name for entry in caught.traceback][-2:] == ["_check_teacher", "require"]


def test_every_stage_takes_options() -> None:
    assert {*COMMAND_OF, TWICE} == set(decorated())


@pytest.mark.parametrize("name", COMMAND_OF)
def test_what_stands_alone_on_the_command_line_is_given_by_place(name: str) -> None:
    command = click_command(COMMAND_OF[name])
    words = [str(each.name) for each in command.params if isinstance(each, click.Argument)]
    assert by_place(getattr(tcs, name)) == words


def test_options_of_train_are_those_of_its_parts() -> None:
    flat = {field.name: field.default for field in dataclasses.fields(TrainOptions)}
    assert flat == option_defaults()
    options = TrainOptions("s", out="o", models=("m",), lr=0.5, steps=7, hflip=0.1)
    config = options.config()
    assert (config.optimiser.lr, config.steps, config.augment.hflip) == (0.5, 7, 0.1)
    assert config.options() == vars(options)
    assert not set(PARTS) & set(flat)


def test_options_of_distill_are_written_from_the_stages() -> None:
    script = load_script()
    assert script.PATH.read_text() == script.source(), "python scripts/make_distill_options.py writes it"
    given = {"data": "d", "out": "o", "teacher": "t", "models": ("m",)}
    assert DistillOptions("d", out="o", teacher="t", models=("m",)).config() == tcs.DistillConfig.from_options(given)
    config = DistillOptions("d", out="o", teacher="t", models=("m",), student_img_size=32, fit_method="jl").config()
    assert (config.extract.img_size, config.train.img_size, config.fit.method) == (None, 32, "jl")


def test_a_wrong_option_of_each_stage_is_told() -> None:
    with pytest.raises(TypeError, match=r"^tcs\.extract has no option 'techer'\. Did you mean teacher.*\?"):
        tcs.extract("photos", techer="resnet18", out="x.store")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"^tcs\.train has no option 'leaning_rate'\."):
        tcs.train("x.store", out="run", models=("resnet18",), leaning_rate=3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"^tcs\.distill has no option 'shot'\. Did you mean shots"):
        tcs.distill("photos", out="w", teacher="t", models=("resnet18",), shot=3)  # type: ignore[call-overload]
    with pytest.raises(tcs.ConfigError, match=r"^shots is 'four'; it must be a whole number or None\.$"):
        tcs.train("x.store", out="run", models=("resnet18",), shots="four")  # type: ignore[call-overload]


def test_a_number_for_a_path_is_told_by_the_name_of_the_option() -> None:
    with pytest.raises(tcs.ConfigError, match=r"^store is 3; it must be a path\.$"):
        tcs.fit(3, out="c.safetensors")  # type: ignore[call-overload]
    with pytest.raises(tcs.ConfigError, match=r"^also is 'b\.store', a single one; it must be a tuple or list, as"):
        tcs.fit("a.store", out="c.safetensors", also="b.store")  # type: ignore[call-overload]


def test_help_shows_options_and_the_configuration() -> None:
    text = pydoc.plain(pydoc.render_doc(tcs.fit))
    on_one_line = " ".join(text.split()).replace("( ", "(")  # Python 3.13 shows long signatures an option a line
    assert "fit(store: str | os.PathLike[str], *, out: str | os.PathLike[str], also" in on_one_line
    assert "-> tcs.coordinates.system.CoordinateSystem" in text
    assert (
        "Takes the options below, which are those of tcs.FitConfig, or one such configuration as its only argument."
        in text
    )
    assert "        power (float): 0 leaves variances as they are, 1 whitens fully. Default: 0.0.\n" in text
    assert "        components (int or None): Coordinates K; min(256, D) without it. Default: None.\n" in text


def test_public_functions_are_written_from_configurations_and_help() -> None:
    found = {path.name: path.read_text(encoding="utf-8") for path in MADE["PLACE"].glob("*.py")}
    assert found == MADE["files"](), "python scripts/make_stages.py writes them"


def test_the_file_of_a_function_that_is_gone_goes(tmp_path: pathlib.Path) -> None:
    (tmp_path / "renamed.py").write_text("gone")
    MADE["write"](tmp_path, {"fit.py": "fit"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"fit.py": "fit"}


@pytest.mark.parametrize("name", decorated())
def test_help_tells_each_option_once_with_its_type_and_words(name: str) -> None:
    stage = getattr(tcs, name)
    _, told = str(inspect.getdoc(stage)).split("\n\nArgs:\n")
    entries = [" ".join(entry.split()) for entry in re.split(r"^    (?=\w)", told, flags=re.MULTILINE)[1:]]
    lines = [re.fullmatch(r"(\w+) \((.+?)\)?\): ([^: ].*\.)", entry) for entry in entries]
    assert None not in lines, entries[lines.index(None)]
    shown = inspect.signature(stage).parameters
    assert sorted(line[1] for line in lines if line) == sorted(shown)
    for line in filter(None, lines):
        has_default = shown[line[1]].default is not inspect.Parameter.empty
        assert (re.search(r"\S Default: \S", line[3]) is not None) == has_default, line[0]
    assert not re.search(r"--[a-z]|Repeatable|\[default", told), "words of the command line alone"


@pytest.mark.parametrize("name", decorated())
def test_type_checkers_are_told_the_names_and_defaults_of_options(name: str) -> None:
    """The declarations that editors read, against the dataclass that takes the options when the function is called."""
    of_config, of_options = map(inspect.signature, typing.get_overloads(getattr(tcs, name)))
    run = inspect.signature(inspect.unwrap(getattr(tcs, name)))
    assert list(of_config.parameters) == list(run.parameters)
    assert of_config.return_annotation == of_options.return_annotation == run.return_annotation
    shown = inspect.signature(getattr(tcs, name)).parameters
    assert set(of_options.parameters) == set(shown)
    for option, each in of_options.parameters.items():
        assert each.kind is shown[option].kind
        assert each.default in (shown[option].default, ...)
        assert (each.default is ...) == (repr(shown[option].default) == "<factory>")


def test_help_says_what_is_taken_beside_a_configuration_alone() -> None:
    text = " ".join(str(inspect.getdoc(tcs.predict)).split())
    assert "as its first argument. After a configuration, and only there, it takes tell too." in text


@pytest.mark.parametrize("name", decorated())
def test_no_public_stage_takes_what_has_no_public_name(name: str) -> None:
    of_config, _ = typing.get_overloads(getattr(tcs, name))
    public = {getattr(tcs, one) for one in tcs.__all__ if inspect.isclass(getattr(tcs, one))}
    taken = {option: kind for option, kind in typing.get_type_hints(of_config).items() if option != "return"}
    for each in taken.values():
        ours = {kind for kind in kinds_within(each) if kind.__module__.startswith("tcs.")}
        assert ours <= public


def kinds_within(annotation: object) -> set[type]:
    """All classes that an annotation names."""
    if isinstance(annotation, list):  # the arguments of a Callable
        return set().union(*map(kinds_within, annotation))
    inner = set().union(*map(kinds_within, typing.get_args(annotation)))
    return inner | ({annotation} if isinstance(annotation, type) else set())


FUNCTIONS = [name for name in tcs.__all__ if inspect.isfunction(getattr(tcs, name))]
WITHOUT_ERRORS = {"loss_facts", "method_facts", "other_facts"}  # they take nothing
RETURNS = re.compile(r"\b[Rr]eturn|^(The|One|A|What) ", re.MULTILINE)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_help_of_a_function_says_what_it_returns_and_what_goes_wrong(name: str) -> None:
    text = str(inspect.getdoc(getattr(tcs, name)))
    assert RETURNS.search(text), text
    assert name in WITHOUT_ERRORS or re.search(r"\b(Tcs|Cache|Data|Model|Artefact|Config)Error\b", text), text


@pytest.mark.parametrize("name", [name for name in tcs.__all__ if name.endswith("Config")])
def test_help_of_a_configuration_names_its_command(name: str) -> None:
    text = str(inspect.getdoc(getattr(tcs, name)))
    words = re.match(r"`tcs ([a-z]+)( [a-z]+)?[^`]*`: ", text)
    assert words is not None, text
    assert words[1] in COMMANDS


@pytest.mark.parametrize("name", [name for name in tcs.__all__ if inspect.isclass(getattr(tcs, name))])
def test_help_of_a_class_tells_of_all_that_is_public_in_it(name: str) -> None:
    kind = getattr(tcs, name)
    members = {key: value for key, value in vars(kind).items() if not key.startswith("_")}
    told = {
        key: value
        for key, value in members.items()
        if isinstance(value, property | classmethod) or inspect.isfunction(value)
    }
    assert {key for key, value in told.items() if not inspect.getdoc(value)} == set()
    assert len(str(inspect.getdoc(kind))) > 20
