"""The study's page, from results written by hand."""

import json

import numpy as np
import pytest

from pointins_plugin.study.ladder import Ladder
from pointins_plugin.study.linear import VERSION
from pointins_plugin.study.report import (
    END,
    Report,
    begin,
    draw_curves,
    draw_overview,
    load_results,
    overview_panels,
    put_between,
    readme_table,
    readme_tuned,
    readme_without_labels,
    study_page,
)
from pointins_plugin.study.tables import (
    Column,
    Deviation,
    difference,
    paired,
    verdict,
    worth_of_one,
)

MACHINE = {
    "cpu": "Some CPU",
    "cores": 2,
    "threads": 1,
    "gpus": [],
    "host": "standalone",
    "torch": "2.13.0",
    "python": "3.11",
}
MADE = {"date": "2026-01-02T03:04:05+00:00", "commit": "abc123", "machine": MACHINE}
GEOMETRY = {"map": 30.0, "ap50": 50.0, "ap25": 70.0}


def result(row, seed, ap, r2, data="mosd", settings="same", **pretraining):
    """A result whose every stage took half a minute."""
    linear = {"map": ap, "ap50": 2 * ap, "ap25": None, "miou": 80.0 + seed}
    linear |= {"offset_r2": r2, "true_things": {"map": 3 * ap}}
    stages = {
        "linear": {"scores": linear, "version": VERSION},
        "instances": {
            "scores": {"map": ap / 2},
            "curves": {"map": [[1, ap / 4], [2, ap / 2]]},
        },
        "semantics": {"scores": {"miou": 70.0}, "curves": {}},
    }
    if row != "scratch":
        curve = [[50, r2 / 2], [100, r2]]
        stages["pretraining"] = {
            "scores": pretraining,
            "curves": {"shift_r2": curve} if pretraining else {},
        }
    for name, stage in stages.items():
        stage.update(settings=settings, seconds=30.0, **MADE)
        if name != "linear":
            stage.update(steps=100)
    return {
        "data": data,
        "row": row,
        "seed": seed,
        "size": "small",
        "stages": stages,
        "encoder_parameters": 1_400_000,
        **MADE,
    }


@pytest.fixture(scope="module")
def ladder():
    return Ladder.read()


@pytest.fixture
def report(ladder):
    offsets = {"offset_r2": 0.5, "offset_cosine": 0.75}
    offsets["methods"] = {"components": GEOMETRY}
    stage = {"scores": {"methods": {"plane_components": GEOMETRY}}, "seconds": 1.0}
    alone = {"data": "mosd", "row": "geometry", "size": "small", **MADE}
    alone["stages"] = {"geometry": stage}
    return Report(
        ladder,
        [
            {**alone, "seed": 0},
            {**alone, "seed": 1},
            result("dos", 1, 22.0, 0.3),
            result("dos", 0, 18.0, 0.3),
            result("pointins-spatial", 0, 30.0, 0.5, **offsets),
            result("pointins-spatial", 1, 34.0, 0.5, **offsets),
            result("odr-only", 0, 10.0, 0.1),
            result("scratch", 0, 5.0, 0.0),
        ],
    )


def lines(text, start):
    return [line for line in text.splitlines() if line.startswith(start)]


def test_rows_are_mean_and_sample_deviation_in_the_ladders_order(report):
    table = report.probes("mosd", "ladder").splitlines()
    assert [line.split("|")[1].strip() for line in table[2:]] == [
        "no pre-training",
        "DOS",
        "PointINS, *spatial* preset",
    ]
    # 18 and 22: mean 20, deviation sqrt(8) = 2.83; AP50 is twice that
    cells = [cell.strip() for cell in table[3].split("|")[2:-1]]
    assert cells == [
        "20.0 ± 2.8",
        "40.0 ± 5.7",
        "80.5 ± 0.7",
        "60.0 ± 8.5",
        "0.30 ± 0.00",
        "10.0 ± 1.4",
        "70.0 ± 0.0",
        "0.5 ± 0.0",  # minutes of pre-training
        "2",
    ]
    (scratch,) = lines("\n".join(table), "| no pre-training")
    assert "| 80.0 | 15.0 | 0.00 | 2.5 | 70.0 | - | 1 |" in scratch
    # nothing has AP25 or was fine-tuned
    assert "AP25" not in table[0]
    assert "tuned" not in table[0]


def test_trained_heads_are_shown_once_they_can_be_compared(report, ladder):
    assert "trained heads AP" in report.probes("mosd", "ladder")
    less = [r for r in report.results if r["row"] != "pointins-spatial"]
    table = Report(ladder, less).probes("mosd", "ladder")
    assert "trained heads AP" not in table
    assert "R² of offsets" in table


def test_ablations_stand_beside_the_baseline_and_the_whole(report):
    table = report.probes("mosd", "ablations").splitlines()
    assert [line.split("|")[1].strip() for line in table[2:]] == [
        "DOS",
        "PointINS, *spatial* preset",
        "+ ODR only",
    ]


def test_label_free_scores_stand_beside_geometry(report):
    table = report.label_free("mosd", "ladder")
    assert len(lines(table, "| DOS")) == 0  # it has no offsets
    assert "| 0.50 ± 0.00 | 0.75 ± 0.00 | 30.0 ± 0.0 |" in table
    assert "| *components, planes removed* |  |  | 30.0 ± 0.0 | 50.0 ± 0.0 |" in table


def test_geometry_is_measured_apart(ladder):
    def run(row, stage, seed, ap):
        scores = {"map": ap, "ap50": ap, "ap25": ap}
        made = result("scratch", seed, 1.0, 0.1)
        methods = {"plane_components": scores, "components": scores}
        made["stages"] = {stage: {"scores": {"methods": methods}, "seconds": 1.0}}
        return {**made, "row": row}

    found = [run("geometry", "geometry", 0, 30.0), run("geometry", "geometry", 1, 34.0)]
    # what a run itself says of geometry is not read
    found.append(run("pointins-spatial", "pretraining", 0, 99.0))
    report = Report(ladder, found)
    assert len(report.results) == 1
    table = report.label_free("mosd", "ladder")
    assert "| *components, planes removed* |  |  | 32.0 ± 2.8 |" in table


def seeds(*values):
    return dict(enumerate(values))


def test_difference_is_noise_inside_its_interval():
    # of four degrees of freedom, t is 2.776: 2.776 * 1.5 / sqrt(3) = 2.40
    some = Deviation(1.5, 4)
    assert difference([1.0, 2.0, 3.3], some) == "+2.1 (± 2.4, noise)"
    assert difference([1.0, 2.0, 4.5], some, 2) == "+2.50 (± 2.40)"
    assert difference([2.0, 4.0], some) == "+3.0 (± 2.9, two seeds)"
    assert difference([-4.1], some) == "-4.1 (± 4.2, one seed, noise)"
    nothing = Deviation(float("nan"), 0)
    assert difference([3.0], nothing) == "+3.0 (one seed)"
    assert difference([1.0, 2.0, 3.0], nothing) == "+2.0"
    assert difference([], some) == "-"


def test_a_verdict_needs_what_was_expected_outside_the_interval():
    some = Deviation(1.5, 4)  # ± 4.2 of one seed
    assert verdict([7.8], some, 3.5) == "met"
    assert verdict([7.6], some, 3.5) == "undecided"
    assert verdict([-0.6], some, 3.5) == "undecided"
    assert verdict([-0.7], some, 3.5) == "**not met**"
    assert verdict([9.0], Deviation(float("nan"), 0), 3.5) == "undecided"


def test_each_kind_of_backbone_has_a_deviation_of_its_own(ladder):
    usual = [result("dos", 0, 18.0, 0.3), result("dos", 1, 22.0, 0.3)]
    usual += [result("pointins-spatial", seed, 30.0, 0.5) for seed in (0, 1)]
    alone = Report(ladder, usual).differences("mosd", "ladder")
    # by hand: squares 8 of two degrees, variance 4, of a difference 8: 4.303 * 2.83
    assert "| *one seed* | ± 12.2 (2) |" in alone
    sparse = [result("dos-spunet", 0, 1.0, 0.1), result("dos-spunet", 1, 41.0, 0.1)]
    sparse += [result("pointins-spunet", seed, 9.0, 0.1) for seed in (0, 1)]
    both = Report(ladder, usual + sparse)
    assert both.differences("mosd", "ladder") == alone
    # the sparse rows' own is ten times as wide
    own = both.differences("mosd", "ablations").split("difference to DOS, sparse")[1]
    assert "| *one seed* | ± 121.7 (2) |" in own


def test_differences_are_taken_seed_by_seed():
    assert paired(seeds(11.0, 13.0), {1: 10.0, 0: 8.0, 2: 5.0}) == [3.0, 3.0]
    assert paired({1: 11.0}, {0: 8.0}) == []  # no seed is both's
    assert paired(seeds(float("nan"), 4.0), seeds(8.0, 3.0)) == [1.0]


def test_deviation_is_pooled_over_rows_that_have_several_seeds():
    # squares about the means: 2 of one degree, 8 of two; variance 10 / 3
    rows = [[2.0, 4.0], [7.0, 9.0, 11.0], [50.0], []]
    pooled = Deviation.pooled(rows)
    assert pooled.free == 3
    assert pooled.value == pytest.approx((10 / 3) ** 0.5)
    # two independent rows differ by twice the variance
    assert Deviation.between(rows).value == pytest.approx((20 / 3) ** 0.5)
    assert (
        worth_of_one(pooled) == f"± {3.1824 * (10 / 3) ** 0.5:.1f} (3)" == "± 5.8 (3)"
    )
    assert worth_of_one(Deviation.pooled([[5.0], []])) == "-"


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Rows of nothing but noise: about one difference in twenty is called one."""
    draw = np.random.default_rng(0)
    called = 0
    for _ in range(2000):
        rows = draw.normal(size=(5, 3))
        gains = list(rows[0] - rows[1])
        called += "noise" not in difference(gains, Deviation.between(rows))
    assert 60 < called < 140


def test_differences_to_dos(report):
    table = report.differences("mosd", "ladder")
    assert table.startswith("| difference to DOS | linear AP |")
    (line,) = lines(table, "| PointINS")
    # 30 less 18 and 34 less 22, whatever the order of the files
    # squares of the two rows 8 and 8, of two degrees: sqrt(2 * 8) * 4.303 / sqrt(2)
    assert "+12.0 (± 12.2, two seeds, noise)" in line
    assert "+0.20 (± 0.00, two seeds)" in line
    (line,) = lines(table, "| no pre-training")
    assert "-13.0 (± 17.2, one seed, noise)" in line
    assert not lines(table, "| DOS")


def test_tables_say_what_one_seed_is_worth(ladder):
    found = [result("dos", 0, 20.0, 0.3), result("dos", 1, 22.0, 0.3)]
    found += [result("sonata", 0, 21.0, 0.3)]
    table = Report(ladder, found).differences("mosd", "ladder")
    (line,) = lines(table, "| *one seed*")
    # 20 and 22: variance 2, of a difference 4; of one degree t is 12.706
    assert line.split("|")[2].strip() == "± 25.4 (1)"
    table = Report(ladder, found[1:]).differences("mosd", "ladder")
    assert table is None  # no seed is both's
    table = Report(ladder, [found[0], found[2]]).differences("mosd", "ladder")
    assert not lines(table, "| *one seed*")


def test_rows_stand_under_the_row_they_are_compared_with(ladder):
    of_sonata = [result("sonata", 0, 20.0, 0.3), result("sonata", 1, 24.0, 0.3)]
    on_sonata = result("pointins-sonata", 1, 25.0, 0.4)
    dos = result("dos", 1, 10.0, 0.3)
    table = Report(ladder, [*of_sonata, on_sonata]).differences("mosd", "ladder")
    head, _, line, _ = table.splitlines()
    assert head.startswith("| difference to Sonata |")
    assert line.startswith("| PointINS on Sonata | +1.0 (± 50.8, one seed, noise) |")
    tables = Report(ladder, [dos, on_sonata, *of_sonata]).differences("mosd", "ladder")
    first, second = tables.split("\n\n")
    (line,) = lines(first, "| Sonata")
    assert "+14.0 (± 50.8, one seed, noise)" in line
    assert not lines(first, "| PointINS")
    assert lines(second, "| PointINS on Sonata | +1.0 (± 50.8, one seed, noise)")
    assert Report(ladder, [on_sonata]).differences("mosd", "ladder") is None


def test_ablations_are_compared_with_the_whole_and_without_labels(ladder):
    def offsets(r2, ap50):
        methods = {"components": {"map": 1.0, "ap50": ap50, "ap25": 1.0}}
        return {"offset_r2": r2, "methods": methods}

    found = [
        result("dos", 0, 20.0, 0.3),
        result("pointins-spatial", 0, 30.0, 0.5, **offsets(0.5, 60.0)),
        result("graph-centre", 0, 28.0, 0.4, **offsets(0.25, 45.0)),
        result("odr-only", 0, 24.0, 0.4, **offsets(0.1, 20.0)),
    ]
    tables = Report(ladder, found).differences("mosd", "ablations")
    to_dos, to_whole = tables.split("\n\n")
    (line,) = lines(to_dos, "| + ODR only")
    assert line.split("|")[2].strip() == "+4.0 (one seed)"
    assert "label-free" not in to_dos  # it has no offsets
    assert to_whole.startswith("| difference to PointINS, *spatial* preset |")
    (line,) = lines(to_whole, "| graph of centres")
    cells = [cell.strip() for cell in line.split("|")[2:-1]]
    assert cells[0] == "-2.0 (one seed)"
    assert cells[-2:] == ["-0.25 (one seed)", "-15.0 (one seed)"]


def test_column_without_value_is_nan():
    column = Column("", ("a", "b"))
    assert column.value({"a": {"b": 2}}) == 2
    for empty in ({}, {"a": None}, {"a": {"b": None}}, {"a": 3}):
        assert column.value(empty) != column.value(empty)


def test_seeds_of_different_settings_are_told(ladder):
    mixed = [result("dos", 0, 1.0, 0.1), result("dos", 1, 1.0, 0.1, settings="other")]
    told = Report(ladder, mixed).mixed()
    assert sorted(told) == [
        f"dos on mosd ({stage})"
        for stage in ("instances", "linear", "pretraining", "semantics")
    ]
    assert not Report(ladder, mixed[:1]).mixed()


def test_page_says_what_the_numbers_were_made_by(report, tmp_path):
    notes = "A finding, [and why](../decisions.md#why)."
    text = study_page(report, tmp_path / "study", notes)
    for part in (
        "A finding, [and why](decisions.md#why).",
        "Some CPU, 2 cores, 1 thread(s) a run, no GPU",
        "abc123",
        "2026-01-02",
        "Runs: 6",
        "Steps: pre-training 100, trained heads of instances 100, of classes 100.",
        "1.40 M parameters",
        "### Main ladder",
        "### Ablations",
    ):
        assert part in text
    assert "streets" not in text.lower().replace("--data", "")


def test_a_run_that_is_only_pre_trained_yet_is_told_as_far_as_it_is(ladder, tmp_path):
    begun = result("dos", 0, 1.0, 0.1)
    begun["stages"] = {"pretraining": begun["stages"]["pretraining"]}
    del begun["encoder_parameters"]
    text = study_page(Report(ladder, [begun]), tmp_path / "study")
    assert "Steps: pre-training 100.\n" in text
    (line,) = lines(text, "| DOS |")
    assert line == "| DOS | 0.5 | 0 |"  # minutes, and seeds that were probed
    text = study_page(
        Report(ladder, [begun, result("dos", 1, 1.0, 0.1)]), tmp_path / "study"
    )
    assert lines(text, "| DOS |")[0].endswith("| 1 |")  # what the means are of


def test_figures_that_are_there_are_shown(report, tmp_path):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "study"
    assert draw_curves(report, "mosd", folder)
    assert not draw_curves(report, "rooms", folder)
    (folder / "figures" / "mosd-dos.png").write_bytes(b"")
    text = study_page(report, folder)
    assert "![curves](study/figures/mosd-curves.png)" in text
    assert "![DOS](study/figures/mosd-dos.png)" in text


def test_the_overview_has_a_dot_for_each_seed_of_the_ladder(report):
    (panels,) = overview_panels(report)
    assert [title for title, _ in panels] == [
        "mosd: linear AP",
        "mosd: mIoU",
        "mosd: AP, things given",
        "mosd: R² of offsets",
    ]
    assert panels[0][1] == [
        ("no pre-training", [5.0]),
        ("DOS", [18.0, 22.0]),
        ("PointINS, spatial preset", [30.0, 34.0]),
    ]


def test_the_overview_is_drawn_with_what_is_there(report, ladder, tmp_path):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "study"
    assert not draw_overview(Report(ladder, []), folder)
    assert "main ladder by" not in study_page(report, folder)
    broken = result("dos", 2, 20.0, 0.3)
    del broken["stages"]["linear"]
    assert draw_overview(Report(ladder, [*report.results, broken]), folder)
    assert "![the main ladder](study/figures/ladder.png)" in study_page(report, folder)


def test_the_worst_scene_is_shown_with_its_score(ladder, tmp_path):
    one = result("pointins-spatial", 0, 30.0, 0.5)
    one["stages"]["linear"]["scores"]["worst_scene"] = {"index": 3, "map": 12.5}
    other = result("pointins-spatial", 1, 30.0, 0.5)
    folder = tmp_path / "study"
    text = study_page(Report(ladder, [one, other]), folder)
    assert "worst" not in text
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "mosd-worst-seed0.png").write_bytes(b"")
    text = study_page(Report(ladder, [one, other]), folder)
    assert "(seed 0) are worst on, AP 12.5 with things given." in text
    assert "![the worst scene](study/figures/mosd-worst-seed0.png)" in text
    assert "worst" not in study_page(Report(ladder, [other]), folder)


def test_readme_table_has_four_columns_a_data_set(report):
    table = readme_table(report).splitlines()
    assert (
        table[0]
        == "| linear probes | mosd: AP | mIoU | AP, things given | R² of offsets |"
    )
    assert len(table) == 2 + 3


def test_panoptic_data_are_scored_by_pq(ladder):
    one = result("dos", 0, 1.0, 0.1, data="streets")
    scores = {"pq": 40.0, "rq": 50.0, "sq": 80.0}
    one["stages"]["linear"]["scores"] = scores
    table = Report(ladder, [one]).probes("streets", "ladder")
    assert "linear PQ | RQ | SQ" in table
    assert "| 40.0 | 50.0 | 80.0 |" in table


def test_readme_table_of_tuned_networks_has_the_rows_that_were_tuned(ladder):
    found = [result(row, 0, 20.0, 0.3) for row in ("scratch", "dos", "odr-only")]
    found += [result("dos", 0, 20.0, 0.3, data="streets")]
    for n, each in enumerate(found[1:]):
        for share, score in ((10, 40.0 + n), (100, 50.0 + n)):
            stage = {"scores": {"map": score, "pq": 2 * score}, "steps": 9}
            each["stages"][f"finetuning{share}"] = stage | {"seconds": 1.0, **MADE}
    assert readme_tuned(Report(ladder, found)).splitlines() == [
        "| tuned whole | mosd: 10 % AP | 100 % AP | streets: 10 % PQ | 100 % PQ |",
        "|---|--:|--:|--:|--:|",
        "| DOS | 40.0 | 50.0 | 84.0 | 104.0 |",
    ]


def test_differences_of_tuned_networks_have_their_own_deviation(ladder):
    found = []
    for row, scores in (("dos", (40.0, 44.0)), ("pointins-spatial", (56.0, 60.0))):
        for seed, score in enumerate(scores):
            each = result(row, seed, 20.0, 0.3)
            stage = {"scores": {"map": score}, "steps": 9, "seconds": 1.0, **MADE}
            each["stages"]["finetuning100"] = stage
            found.append(each)
    table = Report(ladder, found).differences("mosd", "ladder")
    assert "| tuned 100 % AP |" in table.splitlines()[0]
    assert "tuned 10 %" not in table
    # squares of the two rows 8 and 8, of two degrees: sqrt(2 * 8) * 4.303 / sqrt(2)
    assert "| +16.0 (± 12.2, two seeds) |" in table


def test_readme_table_without_labels_has_methods_of_both_kinds_by_data(ladder):
    methods = {"components": GEOMETRY, "modes": GEOMETRY | {"map": 20.0}}
    one = result("pointins-spatial", 0, 30.0, 0.5, methods=methods)
    alone = result("geometry", 0, 30.0, 0.5)
    alone["stages"] = {
        "geometry": {"scores": {"methods": {"hdbscan": {"map": 1.0, "ap50": 2.0}}}}
    }
    table = readme_without_labels(Report(ladder, [one, alone])).splitlines()
    assert table[0] == "| without labels | mosd: AP | AP50 | AP25 |"
    assert table[2] == "| offsets, components | 30.0 | 50.0 | 70.0 |"
    assert table[3] == "| offsets, mean-shift modes | 20.0 | 50.0 | 70.0 |"
    assert table[4] == "| HDBSCAN on coordinates | 1.0 | 2.0 | - |"
    assert len(table) == 2 + 5


def test_only_what_stands_between_the_markers_is_replaced():
    page = (
        f"before\n{begin('a')}\nold\n{END}\nbetween\n{begin('b')}\nold\n{END}\nafter\n"
    )
    new = page.replace("b -->\nold", "b -->\nnew")
    assert new != page
    assert put_between(page, "b", "new") == new
    assert put_between(new, "b", "old") == page
    assert put_between(page, "c", "new") == page
    assert put_between(f"{begin('a')} only", "a", "new") == f"{begin('a')} only"


def test_results_that_cannot_be_read_or_of_another_size_are_left_out(tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "a.json").write_text(json.dumps(result("dos", 0, 1.0, 0.1)))
    (runs / "b.json").write_text("{")
    other = {**result("dos", 1, 1.0, 0.1), "size": "quick"}
    (runs / "c.json").write_text(json.dumps(other))
    assert [r["seed"] for r in load_results(tmp_path, "small")] == [0]
