"""One unit of the study: its stages, its result, and going on."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fake_training import SCORES, FakeTraining, fake_probes

from pointins_plugin.errors import UserError
from pointins_plugin.host import Config
from pointins_plugin.study import provenance, runs, unit
from pointins_plugin.study.ladder import LINEAR, PRETRAINING, STAGES, Ladder, Unit
from pointins_plugin.study.unit import (
    digest,
    forget,
    read_result,
    result_path,
    run_unit,
    status,
    unit_folder,
)


@pytest.fixture(scope="module")
def ladder():
    return Ladder.read()


@pytest.fixture
def fake(monkeypatch):
    training = FakeTraining()
    monkeypatch.setattr(runs, "_train", training)
    fake_probes(monkeypatch, unit, training)
    return training


@pytest.fixture
def run(ladder, fake, tmp_path):
    """Run a row on mOSD; the folders are `out` and `study` of tmp_path."""

    def start(row, skip=(), size="quick", seed=0):
        each = Unit("mosd", ladder.rows[row], seed)
        out = "out" if size == "quick" else f"out-{size}"
        folders = (tmp_path / out, tmp_path / "study")
        return run_unit(ladder, each, size, *folders, skip, say=lambda text: None)

    return start


def state(ladder, row, tmp_path, skip=(), size="quick"):
    each = Unit("mosd", ladder.rows[row], 0)
    return status(ladder, each, size, tmp_path / "study", skip)


def test_a_row_of_the_ladder_goes_through_all_stages(run, fake, ladder, tmp_path):
    assert state(ladder, "dos", tmp_path) == "to do"
    result = run("dos")
    assert fake.started == [f"dos/{stage}" for stage in STAGES if stage != LINEAR]
    assert state(ladder, "dos", tmp_path) == "done"
    path = result_path(tmp_path / "study", Unit("mosd", ladder.rows["dos"], 0), "quick")
    assert json.loads(path.read_text()) == result
    assert list(result["stages"]) == list(STAGES)
    assert result["encoder_parameters"] == 12
    assert result["stages"]["instances"]["scores"]["ap50"] == 40.0
    linear = result["stages"]["linear"]
    assert linear["scores"] == SCORES
    assert linear["start"] == result["stages"]["pretraining"]["checkpoint"]
    assert linear["fitted"] == {"offset_penalty": 0.1}
    assert {"settings", "start", "seconds", "date", "commit", "machine"} < linear.keys()
    semantics = result["stages"]["semantics"]
    assert semantics["curves"] == {"shift_r2": [[50, 0.25]], "miou": [[1, 70], [2, 80]]}
    assert semantics["steps"] == 100
    assert semantics["seconds"] >= 0
    assert {"date", "commit", "machine"} <= semantics.keys()
    assert (tmp_path / "study/figures/mosd-dos-quick.png").read_text() == "DOS 23"


def test_probes_start_from_the_checkpoint_of_their_row(run, tmp_path):
    run("dos", skip=("semantics", "finetuning10", "finetuning100"))
    import torch

    folder = tmp_path / "out/mosd/dos/seed0"
    started = torch.load(folder / "instances/model/model_last.pth", weights_only=True)
    weight = f"weight={folder / 'pretraining/model/model_last.pth'}"
    assert weight in started["options"]


def test_ablations_have_no_trained_heads_and_are_not_drawn(run, fake, tmp_path):
    run("odr-only")
    assert fake.started == ["odr-only/pretraining"]
    assert not (tmp_path / "study/figures").exists()


def test_the_worst_scene_of_the_whole_method_is_drawn(run, tmp_path):
    few = ("instances", "semantics", "finetuning10", "finetuning100")
    run("dos", skip=few)
    figures = tmp_path / "study/figures"
    assert not list(figures.glob("*worst*"))
    run("pointins-spatial", skip=few, seed=1)
    figure = figures / "mosd-worst-seed1-quick.png"
    assert figure.read_text() == "PointINS, *spatial* preset 3"
    run("pointins-spatial", skip=few, seed=2)  # there is one
    run("pointins-spatial", skip=few)
    assert len(list(figures.glob("*worst*"))) == 2  # and that of the first seed


def test_from_scratch_there_is_no_pre_training(run, fake):
    result = run("scratch")
    assert PRETRAINING not in result["stages"]
    assert fake.started[0] == "scratch/instances"
    assert fake.probed == [None]
    assert result["encoder_parameters"] == 12


def test_stopped_between_stages_it_goes_on(run, fake, ladder, tmp_path):
    fake.fail = {"dos/semantics"}
    with pytest.raises(UserError, match="out of luck"):
        run("dos")
    assert state(ladder, "dos", tmp_path) == "to do"
    fake.fail, fake.started = set(), []
    assert len(fake.probed) == 1
    run("dos")
    assert fake.started == [f"dos/{stage}" for stage in STAGES[3:]]
    assert len(fake.probed) == 1  # nor is the probe repeated


def test_a_probe_is_of_its_own_pre_training(run, fake, tmp_path):
    """Another checkpoint is probed anew; without any there is nothing to probe."""
    few = ("instances", "semantics", "finetuning10", "finetuning100")
    with pytest.raises(UserError, match="not pre-trained; do not skip"):
        run("dos", skip=("pretraining", *few))
    run("dos", skip=few)
    run("dos", skip=("pretraining", *few))
    folder = tmp_path / "out/mosd/dos/seed0/pretraining"
    assert fake.probed == [folder / "model/model_last.pth"]
    step = json.loads((folder / "step.json").read_text())
    (folder / "step.json").write_text(json.dumps({**step, "digest": "another"}))
    run("dos", skip=("pretraining", *few))
    assert len(fake.probed) == 2


def test_a_probe_of_another_version_is_made_anew(
    run, fake, ladder, tmp_path, monkeypatch
):
    run("dos")
    monkeypatch.setattr(unit, "VERSION", unit.VERSION + 1)
    assert state(ladder, "dos", tmp_path) == "to do"
    path = result_path(tmp_path / "study", Unit("mosd", ladder.rows["dos"], 0), "quick")
    assert read_result(path)["stages"].keys() == {*STAGES} - {LINEAR}
    fake.started = []
    stages = run("dos")["stages"]
    assert not fake.started  # nothing is trained again
    assert len(fake.probed) == 2
    assert stages[LINEAR]["version"] == unit.VERSION
    assert state(ladder, "dos", tmp_path) == "done"


def test_other_settings_are_told_though_the_probe_is_of_another_version(
    run, ladder, tmp_path, monkeypatch
):
    run("dos")
    values = json.loads(json.dumps(ladder.values))
    values["sizes"]["quick"]["mosd"]["pretraining"]["batch_size"] = 4
    monkeypatch.setattr(unit, "VERSION", unit.VERSION + 1)
    assert state(Ladder(ladder.rows, values), "dos", tmp_path) == "changed"


def test_a_run_is_of_the_commit_it_began_at(run, fake, tmp_path, monkeypatch):
    """A commit made while it ran is not what it ran."""
    now = ["aaa"]
    monkeypatch.setattr(provenance, "commit", lambda: now[0])
    few = ("instances", "semantics", "finetuning10", "finetuning100")
    train = fake.__call__

    def committing(step, *words):
        train(step, *words)
        now[0] = "bbb"

    monkeypatch.setattr(runs, "_train", committing)
    stages = run("dos", skip=few)["stages"]
    assert stages[PRETRAINING]["commit"] == "aaa"
    assert stages[LINEAR]["commit"] == "bbb"

    def stopped(step, *words):
        train(step, *words)
        raise SystemExit(143)

    monkeypatch.setattr(runs, "_train", stopped)
    with pytest.raises(SystemExit):
        run("dos", skip=few, seed=1)
    now[0] = "ccc"
    monkeypatch.setattr(runs, "_train", train)
    assert run("dos", skip=few, seed=1)["stages"][PRETRAINING]["commit"] == "bbb, ccc"


def test_left_out_stages_are_added_later(run, fake, ladder, tmp_path):
    few = ("finetuning10", "finetuning100")
    run("dos", skip=few)
    assert state(ladder, "dos", tmp_path, skip=few) == "done"
    assert state(ladder, "dos", tmp_path) == "to do"
    fake.started = []
    result = run("dos")
    assert fake.started == [f"dos/{stage}" for stage in few]
    assert result["stages"].keys() == {*STAGES}
    # a run with less does not take away what is there
    assert run("dos", skip=few)["stages"].keys() == {*STAGES}


def test_a_changed_config_is_noticed_and_repeated_on_wish(run, ladder, tmp_path):
    run("dos")
    values = json.loads(json.dumps(ladder.values))
    values["sizes"]["quick"]["mosd"]["pretraining"]["batch_size"] = 4
    other = Ladder(ladder.rows, values)
    assert state(other, "dos", tmp_path) == "changed"
    each = Unit("mosd", ladder.rows["dos"], 0)
    folders = (tmp_path / "out", tmp_path / "study")
    with pytest.raises(UserError, match="other settings"):
        run_unit(other, each, "quick", *folders, say=lambda text: None)
    forget(each, "quick", *folders)
    assert not unit_folder(each, tmp_path / "out").exists()
    assert state(other, "dos", tmp_path) == "to do"
    run_unit(other, each, "quick", *folders, say=lambda text: None)
    assert state(other, "dos", tmp_path) == "done"


def test_sizes_do_not_mix(run, ladder, tmp_path):
    run("dos")
    run("dos", size="large")
    assert state(ladder, "dos", tmp_path, size="large") == "done"
    assert state(ladder, "dos", tmp_path, size="small") == "to do"
    names = sorted(path.name for path in (tmp_path / "study" / "runs").iterdir())
    assert names == ["mosd-dos-seed0-large.json", "mosd-dos-seed0-quick.json"]


def test_a_damaged_result_is_made_anew(run, ladder, tmp_path):
    run("dos")
    path = result_path(tmp_path / "study", Unit("mosd", ladder.rows["dos"], 0), "quick")
    path.write_text("{")
    assert state(ladder, "dos", tmp_path) == "to do"
    run("dos")
    assert state(ladder, "dos", tmp_path) == "done"


def test_digest_knows_settings_and_no_place_or_seed(ladder):
    one, two = (
        ladder.config(Unit("mosd", ladder.rows["dos"], seed), "instances", "quick")
        for seed in (0, 1)
    )
    place = "/some/where/else"
    two.data_root = two.data.train.data_root = two.data.val.data_root = place
    assert digest(one) == digest(two)
    two.optimizer.lr = 0.5
    assert digest(one) != digest(two)


def test_a_config_holds_no_preset_that_its_model_does_not_use(ladder):
    """A run of a baseline is the same, whatever becomes of a preset."""
    cfg = ladder.config(Unit("mosd", ladder.rows["dos"], 0), PRETRAINING, "quick")
    whole = Config.fromfile(cfg.filename)
    presets = [key for key in whole if key.startswith(("spatial_", "paper_"))]
    assert len(presets) >= 2
    assert not cfg.keys() & set(presets)
