"""The tables for a paper: numbers, bold, marks, and text that LaTeX cannot run."""

from grid_folders import grid_row, usual_rows, write_rows

from tcs.grid.reported import write_report
from tcs.reporting.latex import escaped


def test_a_table_worked_by_hand(tmp_path):
    text = write_report(write_rows(tmp_path / "grid", usual_rows(seeds=3)), tmp_path / "r.tex").read_text()
    assert text.startswith("% written by tcs report")
    assert "\\begin{tabular}{lrr}\n\\toprule\nmethod & 1 shot & 4 shots \\\\\n\\midrule\n" in text
    assert "labels & 41.0 $\\pm$ 2.5 & 51.0 $\\pm$ 2.5 \\\\" in text
    assert (
        "tcs-pool & \\textbf{56.0} $\\pm$ 2.5 & \\textbf{66.0} $\\pm$ 2.5 \\\\\n\\midrule\nteacher-probe & 61.0" in text
    )
    assert "dagger" not in text


def test_few_seeds_have_a_dagger_and_gaps_a_dash(tmp_path):
    rows = [grid_row("vit", "a", 1, 0, 50.0), grid_row("vit", "b", 4, 0, 40.0)]
    text = write_report(write_rows(tmp_path / "grid", rows), tmp_path / "r.tex").read_text()
    assert "a & \\textbf{50.0}$^{\\dagger}$ & -- \\\\" in text
    assert "$\\dagger$: fewer than 3 seeds." in text


def test_text_of_users_is_set_as_it_is():
    assert (
        escaped("a_b & 5 %\n#1 {x} ~^\\")
        == r"a\_b \& 5 \% \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{}"
    )


def test_each_data_set_has_its_table(tmp_path):
    rows = usual_rows(datasets=("cifar10", "flowers_5"))
    text = write_report(write_rows(tmp_path / "grid", rows), tmp_path / "r.tex").read_text()
    assert text.count("\\begin{table}") == text.count("\\end{table}") == 2
    assert "flowers\\_5: vit" in text
