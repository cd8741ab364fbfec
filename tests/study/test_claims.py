"""What was expected, beside results written by hand."""

import pytest

from pointins_plugin.study.claims import claims
from pointins_plugin.study.ladder import GEOMETRY, Ladder
from pointins_plugin.study.report import Report, study_page


def result(row, seed, ap=0.0, miou=0.0, r2=0.0, found=None, data="mosd"):
    """A result with what claims look at; ``found``: AP50 and AP25 without labels."""
    linear = {"map": ap, "pq": 2 * ap, "miou": miou, "offset_r2": r2}
    stages = {"linear": {"scores": linear}}
    if found:
        stages["pretraining"] = {"scores": methods("components", *found)}
    return {"data": data, "row": row, "seed": seed, "stages": stages}


def geometry(seed, ap50, ap25):
    """What coordinates alone find."""
    stage = {"scores": methods("plane_components", ap50, ap25)}
    return {"data": "mosd", "row": GEOMETRY, "seed": seed, "stages": {GEOMETRY: stage}}


def methods(name, ap50, ap25):
    return {"methods": {name: {"map": 0.0, "ap50": ap50, "ap25": ap25}}}


def cells(results, row="pointins-spatial", data="mosd"):
    """The cells of one data set's column."""
    report = Report(Ladder.read(), results)
    lines = report.expectations(row).splitlines()
    column = [c.strip() for c in lines[0].split("|")].index(data)
    return [line.split("|")[column].strip() for line in lines[2:]]


def test_differences_are_taken_by_seed_and_judged_by_their_interval():
    results = [
        result("dos", 0, ap=10.0, miou=50.0, r2=0.30),
        result("dos", 1, ap=10.2, miou=60.0, r2=0.32),
        result("dos", 2, ap=10.1, miou=55.0, r2=0.31),
        result("pointins-spatial", 0, 30.0, 50.0, 0.40, (50, 70)),
        result("pointins-spatial", 1, 30.2, 59.2, 0.42, (60, 80)),
        geometry(0, 40, 62),
        geometry(1, 70, 64),
        geometry(2, 99, 99),  # no partner: not counted
    ]
    # Of three degrees of freedom, t is 3.182. Squares about the rows' means: AP .02 and
    # .02, mIoU 50 and 42.32, R2 .0002 and .0002; a difference of two rows over two
    # seeds is off by sqrt(2 * squares / 3 / 2).
    # AP50: +10, -10; AP25: +8, +16: one row, one degree, t 12.706, squares 200 and 32.
    assert cells(results) == [
        "+20.0 (± 0.4, two seeds): met",
        "-0.4 (± 17.7, two seeds, noise): undecided",
        "+0.10 (± 0.04, two seeds): **not met**",
        "+0.0 (± 127.1, two seeds, noise): undecided",
        "+12.0 (± 50.8, two seeds, noise): undecided",
    ]


def test_streets_are_held_to_panoptic_quality():
    results = [
        result("dos", 0, ap=10.0, data="streets"),
        result("pointins-spatial", 0, ap=11.9, data="streets"),
    ]
    # PQ is twice AP here; of a single seed of each row nothing is known
    assert cells(results, data="streets")[0] == "+3.8 (one seed): undecided"


def test_the_branch_on_sonata_is_compared_with_sonata():
    results = [
        result("dos", 0, ap=0.0),
        result("sonata", 0, ap=10.0),
        result("pointins-sonata", 0, ap=12.0),
    ]
    assert cells(results, "pointins-sonata")[0] == "+2.0 (one seed): undecided"


@pytest.mark.parametrize("alone", ["dos", "pointins-spatial"])
def test_nothing_is_claimed_of_what_did_not_run(alone):
    results = [result(alone, 0, ap=1.0)]
    if alone == "dos":
        assert Report(Ladder.read(), results).expectations("pointins-spatial") is None
    else:
        assert set(cells(results)) == {"-"}


def test_claims_are_the_same_rows_for_all_data():
    assert [c.title for c in claims(True)] == [c.title for c in claims(False)]


def test_the_page_shows_claims_before_tables(tmp_path):
    made = {"date": "2026-01-02T03:04:05+00:00", "commit": "abc"}
    results = []
    for row in ("dos", "pointins-spatial"):
        one = {**result(row, 0, ap=1.0), **made}
        for stage in one["stages"].values():
            stage.update(made, seconds=1.0, settings="same", steps=1)
        results.append(one)
    page = study_page(Report(Ladder.read(), results), tmp_path / "study")
    place = page.index("What was expected")
    assert place < page.index("What was run") < page.index("Main ladder")
    assert "| linear AP +3.5, PQ +4 | +0.0 (one seed): undecided |" in page
