"""Who won, by how much and how sure: worked by hand, and never surer than the seeds allow."""

import pytest
from grid_folders import grid_row, usual_rows, write_predictions, write_rows

from tcs.reporting.contrast import against_all, bootstrapped, contrast
from tcs.reporting.predicted import load_predictions
from tcs.reporting.results import group_tables, load_runs
from tcs.reporting.seal import seal, trust_in
from tcs.reporting.verdict import judge, leaders, ranking


def tables_of(folder, rows):
    return group_tables(load_runs(write_rows(folder, rows)))


def pair_rows(differences, shots=1, split="s"):
    """kd at 50, ours so much above it, a seed a difference."""
    rows = []
    for seed, difference in enumerate(differences):
        rows.append(grid_row("vit", "kd", shots, seed, 50.0, split_id=f"{split}{seed}"))
        rows.append(grid_row("vit", "ours", shots, seed, 50.0 + difference, split_id=f"{split}{seed}"))
    return rows


@pytest.mark.parametrize(
    ("differences", "headline", "certainty"),
    [
        ((5, 6, 5, 6, 5), "ours beats kd by 5.4 points.", "sure"),
        ((5, 6, 5), "ours is ahead of kd by 5.3 points, and chance alone hardly explains it.", "likely"),
        ((9, -5, 2, 1, -3), "No winner: ours is ahead of kd by 0.8 points, which may be chance.", "open"),
        (
            (5, 6),
            "ours is ahead of kd by 5.5 points, but 2 draws of the labelled images cannot say how sure that is.",
            "unknown",
        ),
        (
            (1,),
            "ours is ahead of kd by 1.0 point, but 1 draw of the labelled images cannot say how sure that is.",
            "unknown",
        ),
    ],
)
def test_the_headline_is_as_sure_as_the_seeds(tmp_path, differences, headline, certainty):
    verdict = judge(tables_of(tmp_path, pair_rows(differences)), ("ours", "kd"), None)
    assert (verdict.headline, verdict.certainty) == (headline, certainty)


def test_two_methods_that_were_picked_after_looking_are_corrected_for_all_pairs(tmp_path):
    # ours - kd: 1 2 1 2 1.5, t = 1.5 sqrt 5 / 0.5 = 6.7, p = 0.0026: of 1 pair likely, of 45 pairs open.
    tables = tables_of(tmp_path / "two", pair_rows((1, 2, 1, 2, 1.5)))
    assert judge(tables, ("ours", "kd"), None).certainty == "sure"
    assert judge(tables, None, None).certainty == "sure"  # there is no other pair to pick
    others = [grid_row("vit", f"m{i}", 1, s, 20.0 + i, split_id=f"s{s}") for i in range(8) for s in range(5)]
    many = tables_of(tmp_path / "many", pair_rows((1, 2, 1, 2, 1.5)) + others)
    verdict = judge(many, None, None)
    assert (verdict.result.first, verdict.result.second, verdict.certainty) == ("ours", "kd", "open")
    assert (
        verdict.sureness
        == "Open: the difference may be chance. It was picked from 45 pairs after looking, and corrected for that."
    )
    assert judge(many, ("ours", "kd"), None).certainty == "sure"


def test_a_comparison_that_was_not_fixed_beforehand_is_never_sure(tmp_path):
    tables = tables_of(tmp_path, pair_rows((5, 6, 5, 6, 5)))
    before = {"seal": seal(["ours", "kd"], {}, 0)}
    assert judge(tables, ("ours", "kd"), trust_in(["ours", "kd"], before)).certainty == "sure"
    assert judge(tables, ("kd", "ours"), trust_in(["kd", "ours"], before)).certainty == "likely"


def test_the_winner_is_told_whichever_side_the_comparison_named(tmp_path):
    tables = tables_of(tmp_path, pair_rows((-5, -6, -5, -6, -5)))
    verdict = judge(tables, ("ours", "kd"), None)
    assert verdict.headline == "kd beats ours by 5.4 points."
    assert verdict.detail == (
        "Of 100 test images, kd names 50.0 correctly and ours 44.6: 5.4 more (95 % interval +4.7 to +6.1), averaged over 5 draws of "
        "the labelled images."
    )


def test_when_the_comparison_was_named_is_told(tmp_path):
    tables = tables_of(tmp_path, pair_rows((5, 6, 5)))
    before = {"seal": seal(["ours", "kd"], {}, 0)}
    assert "was fixed beforehand (sealed" in judge(tables, ("ours", "kd"), trust_in(["ours", "kd"], before)).caution
    later = judge(tables, ("kd", "ours"), trust_in(["kd", "ours"], before))
    assert "was not fixed beforehand" in later.caution
    assert "A claim needs 5 seeds; this has 3." in later.caution
    assert "No comparison was named beforehand" in judge(tables, None, None).caution


def test_the_interval_is_over_seeds_and_not_over_settings(tmp_path):
    # Means of the two settings within a seed: (4 + 8) / 2 = 6 and (6 + 10) / 2 = 8 and 7; std 1, half 4.303 / sqrt 3 = 2.48.
    rows = pair_rows((4, 6, 5)) + pair_rows((8, 10, 9), shots=4)
    found = contrast(tables_of(tmp_path, rows), "ours", "kd")
    assert (found.whole.mean, found.whole.n) == (7, 3)
    assert found.whole.half == pytest.approx(2.484, abs=1e-3)
    assert (len(found.conditions), found.used, found.ahead) == (2, 2, 2)
    assert (found.first_mean, found.second_mean) == (57, 50)


def test_a_setting_with_too_few_seeds_does_not_take_the_others(tmp_path):
    rows = pair_rows((4, 6, 5)) + pair_rows((20,), shots=4)
    found = contrast(tables_of(tmp_path, rows), "ours", "kd")
    assert (found.whole.mean, found.whole.n, found.used, len(found.conditions)) == (5, 3, 1, 2)
    assert (
        "The mean is over the 1 setting that shares seeds."
        in judge(tables_of(tmp_path, rows), ("ours", "kd"), None).detail
    )


def test_settings_whose_seeds_never_meet_leave_the_fullest(tmp_path):
    rows = pair_rows((4, 6, 5)) + [row | {"seed": row["seed"] + 7} for row in pair_rows((9, 9), shots=4)]
    found = contrast(tables_of(tmp_path, rows), "ours", "kd")
    assert (found.whole.mean, found.whole.n, found.used) == (5, 3, 1)


def test_methods_that_never_met_are_not_compared(tmp_path):
    rows = [grid_row("vit", "kd", 1, 0, 50.0), grid_row("vit", "ours", 1, 0, 60.0, split_id="another")]
    verdict = judge(tables_of(tmp_path, rows), ("ours", "kd"), None)
    assert (verdict.headline, verdict.result) == ("There is nothing to compare yet.", None)
    one = judge(tables_of(tmp_path / "one", rows[:1]), None, None)
    assert one.detail == "A comparison needs two methods with results."


def test_rows_without_a_pool_count_once_though_they_stand_in_the_table_of_each_pool(tmp_path):
    pools = [
        grid_row("vit", "pooled", 1, seed, 60.0 + seed, pool, split_id=f"s{seed}")
        for seed in range(3)
        for pool in ("10", "all")
    ]
    tables = tables_of(tmp_path, pair_rows((4, 6, 5)) + pools)
    assert len(tables) == 2
    assert len(contrast(tables, "ours", "kd").conditions) == 1
    assert len(contrast(tables, "pooled", "kd").conditions) == 2


def test_a_third_method_that_ranks_first_is_named(tmp_path):
    tables = tables_of(tmp_path, usual_rows())
    assert leaders(tables) == ("tcs-pool", "kd")
    assert judge(tables, ("kd", "labels"), None).detail.endswith("Of all 3 methods tcs-pool ranks first.")
    assert "ranks first" not in judge(tables, ("tcs-pool", "kd"), None).detail


def test_references_and_rows_with_all_labels_are_no_rivals(tmp_path):
    rows = [
        *usual_rows(),
        grid_row("vit", "all-labels", 0, 0, 90.0),
        grid_row("teacher", "teacher-all-labels", 0, 0, 95.0),
    ]
    tables = tables_of(tmp_path, rows)
    assert set(ranking(tables).methods) == {"labels", "kd", "tcs-pool"}
    assert [rival.second for rival in against_all(tables, "tcs-pool")] == ["labels", "kd"]
    assert tables[0].shots == (1, 4)
    assert {method: bound.mean for method, bound in tables[0].bounds.items()} == {
        "all-labels": 90,
        "teacher-all-labels": 95,
    }


def test_p_values_of_rivals_are_corrected_together(tmp_path):
    rows = pair_rows((4, 6, 5)) + [grid_row("vit", "third", 1, s, 49.0 + s, split_id=f"s{s}") for s in range(3)]
    tables = tables_of(tmp_path, rows)
    alone = {rival: contrast(tables, "ours", rival).whole.p for rival in ("kd", "third")}
    corrected = {rival.second: rival.p_holm for rival in against_all(tables, "ours")}
    assert corrected[min(alone, key=alone.get)] == pytest.approx(2 * min(alone.values()))


def test_the_bootstrap_draws_from_the_predictions_of_both(tmp_path):
    folder = write_rows(tmp_path, usual_rows())
    write_predictions(folder, images=100)
    runs = load_runs(folder)
    result = contrast(group_tables(runs), "tcs-pool", "labels")
    found = bootstrapped(result, load_predictions(folder, runs))[""]
    assert (found.mean, found.splits, found.images) == (pytest.approx(15), 5, 100)
    assert 8 < found.low < 15 < found.high < 23
    assert bootstrapped(result, {}) == {}
