"""`tcs methods` on a terminal and piped, and docs/reference/methods.md, which must say the same as the tables."""

import importlib
import inspect
import json
import pathlib
import re
import sys
from typing import Any

import pytest
import torch
from expressions import make_rows, make_setting

from tcs.cli import main
from tcs.criteria import logits
from tcs.criteria.described import call_of, described_losses
from tcs.criteria.losses import LOSSES, build_criteria
from tcs.criteria.terms import parse_loss, reaches_classifier, told_losses
from tcs.methods.beside import OTHERS
from tcs.methods.catalogue import loss_facts, method_facts, other_facts
from tcs.methods.named import METHODS

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "reference" / "methods.md"
FACTS = {fact["name"]: fact for fact in [*loss_facts(), *method_facts(), *other_facts()]}


def methods(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["methods", *arguments])
    output = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, output.out, output.err


def test_no_name_stands_for_two_things() -> None:
    assert len(FACTS) == len(LOSSES) + len(METHODS) + len(OTHERS)


def test_piped_lists_are_lines_with_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = methods(capsys)
    assert (code, err) == (0, "")
    rows = [line.split("\t") for line in out.splitlines()]
    starts = [index for index, row in enumerate(rows) if row[0] in ("method", "loss", "beside")]
    assert starts[0] == 0
    for names, start, stop in zip((METHODS, LOSSES, OTHERS), starts, (*starts[1:], len(rows)), strict=True):
        assert [row[0] for row in rows[start + 1 : stop]] == list(names)
        assert len({len(row) for row in rows[start:stop]}) == 1
    assert "\x1b" not in out


def test_on_a_terminal_names_are_never_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = methods(capsys)
    assert code == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert max(map(len, plain.splitlines())) <= 80
    words = {line.split()[0] for line in plain.splitlines() if line.strip() and not line.startswith(" ")}
    assert set(FACTS) <= words


@pytest.mark.parametrize("name", FACTS)
@pytest.mark.parametrize("columns", [50, 200])
def test_a_name_has_one_page(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, err = methods(capsys, name)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) < 60
    assert lines[0].startswith(name)
    assert "['" not in out
    assert "None" not in out.replace("=None", "")
    if columns == 200:
        assert max(map(len, lines)) <= 120
        assert all(text in out for text in FACTS[name].get("related", []))
        (use,) = [line for line in lines if line.startswith("use ")]
        if name in LOSSES:
            found = re.search("--loss '(.*)'", use)
            assert found is not None
            assert parse_loss(found[1])[-1].name == name
        if name not in OTHERS:
            axes = FACTS[name].get("axes")
            other_axes = bool(axes) and "pca" not in axes  # principal axes are fitted to the store
            assert ("--targets" in use) == ("bits" in FACTS[name]["needs"] or other_axes)


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(methods(capsys, "--json")[1])
    assert [fact["name"] for fact in found["losses"]] == list(LOSSES)
    assert [fact["name"] for fact in found["methods"]] == list(METHODS)
    assert [fact["name"] for fact in found["others"]] == list(OTHERS)
    assert found["cost"]["batch_size"] == 256
    for name in ("vid", "ibm2"):
        assert json.loads(methods(capsys, name, "--json")[1]) == FACTS[name]


def test_an_unknown_name_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = methods(capsys, "rdk")
    assert (code, out) == (1, "")
    assert err.startswith("Error: 'rdk' is neither a loss nor a method. Did you mean")
    assert err.count("\n") == 1


def imported(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute, None)


def test_what_is_told_without_torch_is_what_the_table_says() -> None:
    """But for calls of torch's own functions, which have other arguments in other versions of it."""
    wanted = {fact["name"]: fact for fact in json.loads(json.dumps(described_losses()))}
    for facts in (found := {name: dict(fact) for name, fact in told_losses().items()}, wanted):
        for fact in facts.values():
            fact.pop("call" if fact["function"].startswith("torch.") else "", None)
    assert list(found) == list(LOSSES)
    assert found == wanted, "run python -m tcs.criteria.described"
    assert {name for name in LOSSES if reaches_classifier(name)} == set(logits.LOSSES)
    assert not reaches_classifier("tests.mine:LOSS")


def test_names_of_a_loss_lead_to_its_functions() -> None:
    described = {facts["name"]: facts for facts in loss_facts()}
    found = {
        name: [imported(text) for text in (facts["function"], *facts["related"])] for name, facts in described.items()
    }
    wanted = {name: [LOSSES[name].function, *LOSSES[name].related] for name in LOSSES}
    assert len(wanted) > 30
    assert {name: found[name] for name in wanted if found[name] != wanted[name]} == {}


def test_texts_of_what_is_no_loss_are_those_of_functions_that_exist() -> None:
    assert OTHERS
    for name, entry in OTHERS.items():
        assert entry.call == call_of(imported(entry.function)), name
        assert [text for text in entry.related if not callable(imported(text))] == []


def test_a_call_names_the_arguments_and_their_defaults() -> None:
    assert FACTS["kd"]["call"] == "kd(logits_s_BC, logits_t_BC, temperature=4.0)"


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "ce"])
def test_a_criterion_calls_the_function_that_it_names(name: str) -> None:
    """By the code objects that run while it works: the table may name no function beside the one that trains."""
    function, called = inspect.unwrap(LOSSES[name].function), []
    setting = make_setting()
    criterion = build_criteria(parse_loss(name), setting)[name].double()
    rows = make_rows(setting)
    sys.setprofile(lambda frame, event, _: called.append(frame.f_code) if event == "call" else None)
    try:
        criterion(rows)
    finally:
        sys.setprofile(None)
    assert function.__code__ in called


def test_methods_name_the_functions_of_their_losses_and_axes() -> None:
    assert "tcs.functional.rdimkd.rdimkd" in FACTS["rdimkd-p"]["functions"]
    assert FACTS["jll-frozen"]["functions"][:2] == [
        "tcs.functional.coordinates.coordinate_l2",
        "tcs.coordinates.axes.gaussian_axes",
    ]
    assert "tcs.functional.coordinates.elsh" in FACTS["tcs+elsh"]["functions"]


def test_the_page_has_a_heading_for_everything_and_for_nothing_else() -> None:
    headings = [line for line in PAGE.read_text().splitlines() if line.startswith("### ")]
    names = [name for line in headings for name in re.findall(r"`([^`]+)`", line)]
    assert sorted(names) == sorted(FACTS)


def test_the_rows_of_the_page_say_what_the_tables_say() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    expected = [_loss_row(LOSSES[name].weight, FACTS[name]) for name in LOSSES]
    expected += [
        f"| `{fact['name']}` | {fact['head']} | {fact['loss']} | {fact['classifier']} | {fact['warm_up'] or '-'} | "
        f"{', '.join(fact['axes']) or 'any'} |"
        for fact in method_facts()
    ]
    assert [row for row in rows if row.split("`")[1] in FACTS] == expected


def _loss_row(weight: float | None, fact: dict) -> str:  # type: ignore[type-arg]
    factor = "unknown" if weight is None else f"{weight:g}"
    reads, trains = ", ".join(fact["needs"]), fact["trains"] or "-"
    return f"| `{fact['name']}` | {reads} | {trains} | {factor} | `{fact['function']}` |"


# What an author's fixture would hold beside the features: the functional form must take it as an argument.
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("projector", {"weight_TS", "bias_T", "alpha"}),
        *[(f"projector-{kind}", {"weight_TS", "bias_T", "alpha"}) for kind in ("gn", "l2", "none", "itrd")],
        ("projector-mse", {"weight_TS", "bias_T"}),
        ("projector-mlp", {"first_HS", "first_bias_H", "second_TH", "second_bias_T", "alpha"}),
        *[(name, {"adaptor_TS", "adaptor_bias_T"}) for name in ("lsh", "lshl2", "lshl2_s", "queue-kl", "rdimkd-map")],
        *[(name, {"adaptor_TS", "adaptor_bias_T"}) for name in ("cosine", "feature-l2", "smooth-l1")],
        ("projector-correlation", {"weight_TS", "bias_T", "alpha", "eps"}),
        ("vkd", {"weight_TS"}),
        ("vkd-standardised", {"weight_TS", "scale_T", "bias_T"}),
        ("vkd-whitened", {"weight_TS", "whitening"}),
        ("lsh", {"weight_HT", "bias_H"}),
        ("lshl2", {"weight_HT", "bias_H"}),
        ("lshl2_s", {"weight_HT", "bias_H", "right_B"}),
        ("cc", {"weight_s_ES", "bias_s_E", "weight_t_ET", "bias_t_E"}),
        ("crd", {"weight_s_ES", "weight_t_ET", "bank_s_NE", "bank_t_NE", "index_BM", "z_s", "z_t"}),
        ("fitnet", {"weight", "bias_T", "scale_T", "shift_T"}),
        ("vid", {"first_TS", "second_TT", "third_TT", "log_scale_T"}),
        ("ickd", {"weight_TS", "scale_T", "shift_T"}),
        ("review", {"fusion"}),
        ("rdimkd-map", {"projection_TK", "reduction"}),
        ("rkd", {"w_d", "w_a"}),
        ("dkd", {"labels_B", "alpha", "beta", "temperature"}),
        ("ibm2", {"directions_CD", "gains_C", "epsilon", "noise_NRD", "std_D"}),
    ],
)
def test_what_is_trained_or_frozen_is_an_argument(name: str, arguments: set[str]) -> None:
    assert arguments <= set(inspect.signature(imported(FACTS[name]["function"])).parameters)


def test_the_page_shows_how_every_function_is_called() -> None:
    sections = re.split(r"^#{2,3} ", PAGE.read_text(), flags=re.MULTILINE)
    for name, fact in FACTS.items():
        if fact.get("function", "").startswith("tcs.functional"):
            (section,) = [text for text in sections if text.startswith(f"`{name}`")]
            assert section.splitlines()[2] == f"    {fact['call']}"


def test_the_page_explains_the_letters_of_all_shapes_and_uses_no_other() -> None:
    """Capitals and numbers at the end of an argument's name, as `inspect.signature` has it, and the shapes in the text."""
    page = PAGE.read_text()
    start = page.index("B rows of a batch, N images")
    legend = page[start : page.index("The functional", start)] + page[page.index("The letters are") :].split("```")[0]
    known = set(re.findall(r"\b([A-Z])\b", legend))
    calls = [fact["call"] for fact in FACTS.values() if fact.get("function", "").startswith("tcs.functional")]
    suffixes = {suffix for call in calls for suffix in re.findall(r"\w_([A-Z0-9]+)\b", call)}
    assert suffixes >= {"BT", "TS", "NE", "BM"}
    assert {letter for suffix in suffixes for letter in suffix if letter.isalpha()} <= known
    text = page.split("## Labels and logits")[1]
    shapes = re.findall(r"\(([A-Z](?:, [A-Z0-9])+)\)", page) + re.findall(r"\b([A-Z]) -> ([A-Z])\b", text)
    assert {letter for shape in shapes for letter in re.findall("[A-Z]", str(shape))} <= known
    assert not re.search(r"\bD\b", text.split("## Beside the losses")[0])  # teacher dims are T


def test_the_code_of_the_page_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for block in blocks:
            exec(block, names)
            assert torch.isfinite(names["loss"])
    assert names["memory"].z_s > 0
    banks = names["memory"].bank_s_NE, names["start_crd"](rows=100, seed=0).bank_s_NE
    assert 16 < (banks[0] != banks[1]).any(1).sum() <= 48  # three batches of 16 images wrote into it
    assert len(blocks) == 4
