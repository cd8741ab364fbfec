"""`pointins study`: what it starts, how many at a time, and what it says."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "study"))
from fake_training import FakeTraining, fake_probes

from pointins_plugin.cli import COMMANDS
from pointins_plugin.commands import study
from pointins_plugin.errors import UserError
from pointins_plugin.study import runs, unit
from pointins_plugin.study.report import END, begin

FEW = ("--data", "mosd", "--rows", "dos", "scratch", "--seeds", "0", "1")


@pytest.fixture
def fake(monkeypatch):
    training = FakeTraining()
    monkeypatch.setattr(runs, "_train", training)
    fake_probes(monkeypatch, unit, training)
    return training


@pytest.fixture(autouse=True)
def geometry(monkeypatch):
    """Note whose geometry is measured; that of streets cannot be."""
    measured = []

    def measure(ladder, data, seed, size, results):
        if data == "streets":
            raise UserError("no street")
        measured.append((data, seed))
        return measured.count((data, seed)) == 1

    monkeypatch.setattr(study, "measure_geometry", measure)
    return measured


@pytest.fixture(autouse=True)
def absent(monkeypatch):
    """Pretend that data sets are here, but those that a test names."""
    missing = set()

    def build(options):
        for name in missing:
            if name in str(options):
                raise UserError(f"data folder {name} does not exist; put it there")

    monkeypatch.setattr(study, "build_dataset", build)
    return missing


class Starter:
    """Runs units in this process; hands out processes that end at once, or wait."""

    def __init__(self, words, wait=False, fail=(), code=2):
        self.words, self.wait, self.fail = list(words), wait, fail
        self.code = code
        self.alive, self.most, self.names, self.slots = [], 0, [], []

    def __call__(self, each, args, jobs, slot):
        self.slots.append(slot)
        self.alive = [process for process in self.alive if process.poll() is None]
        self.names.append(each.name)
        code = "import sys; sys.exit(0)"
        if self.wait:
            code = "import time; time.sleep(60)"
        elif each.name in self.fail:
            log = study.unit_folder(each, args.out)
            log.mkdir(parents=True, exist_ok=True)
            (log / "unit.log").write_text("pointins: error: out of luck\n")
            code = f"import sys; sys.exit({self.code})"
        else:
            name = f"{each.data}/{each.row.name}/{each.seed}"
            study.run([*self.words, "--unit", name])
        process = subprocess.Popen([sys.executable, "-S", "-c", code])
        self.alive.append(process)
        self.most = max(self.most, len(self.alive))
        return process


@pytest.fixture
def started(fake, monkeypatch, tmp_path):
    """Let the command start its units by a `Starter`; return it and the options."""
    folders = [
        "--out",
        str(tmp_path / "exp"),
        "--results",
        str(tmp_path / "docs/study"),
    ]
    starter = Starter([*folders, "--quick"])
    monkeypatch.setattr(study, "_start", starter)
    return starter, [*folders, "--quick"]


def test_it_is_a_command():
    assert "study" in COMMANDS


def test_what_is_not_done_is_run_and_the_page_written(started, tmp_path, capsys):
    starter, options = started
    study.run([*options, *FEW, "--jobs", "2"])
    assert starter.names == [
        "mosd-dos-seed0",
        "mosd-scratch-seed0",
        "mosd-dos-seed1",
        "mosd-scratch-seed1",
    ]
    shown = capsys.readouterr().out
    assert "0 of 4 runs are done" in shown
    assert "| DOS | 30.0 ± 0.0 |" in shown
    assert "30.0 ± 0.0" in (tmp_path / "docs/study-quick.md").read_text()
    assert len(list((tmp_path / "docs/study/runs").glob("*.json"))) == 4
    study.run([*options, *FEW])
    assert "4 of 4 runs are done" in capsys.readouterr().out
    assert len(starter.names) == 4


def test_geometry_is_measured_once_for_a_data_set_and_seed(started, geometry, capsys):
    _, options = started
    study.run([*options, *FEW])
    assert geometry == [("mosd", 0), ("mosd", 1)]
    assert "mosd, seed 1, geometry alone: 0.0 min" in capsys.readouterr().out
    study.run([*options, *FEW])
    assert "geometry alone" not in capsys.readouterr().out  # it is known


def test_runs_go_on_where_geometry_fails(started, capsys):
    starter, options = started
    few = ["--data", "mosd", "streets", "--rows", "dos"]
    with pytest.raises(UserError, match=r"streets: geometry alone .* no street"):
        study.run([*options, *few])
    assert len(starter.names) == 2


@pytest.mark.parametrize("option", ["--out", "--results"])
def test_a_folder_that_cannot_be_written_starts_nothing(
    started, geometry, tmp_path, option
):
    starter, words = started
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match=r"cannot write .*file is a file"):
        study.run([*words, *FEW, option, str(tmp_path / "file")])
    assert not starter.names
    assert not geometry


def test_dry_run_starts_nothing(started, geometry, tmp_path, capsys):
    starter, options = started
    study.run([*options, *FEW, "--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("to do") for line in lines)
    assert not starter.names
    assert not geometry
    assert not (tmp_path / "docs").exists()


def test_a_smoke_run_is_the_ladder_with_one_seed(started, capsys):
    _, options = started
    study.run([*options, "--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9 * 3
    assert all("-seed2:" in line for line in lines)
    study.run([*options, "--rows", "odr-only", "--dry-run"])
    assert "mosd-odr-only-seed2" in capsys.readouterr().out


def test_data_that_is_not_here_is_left_out_unless_it_is_named(started, absent, capsys):
    _, options = started
    absent.add("mosd")
    study.run([*options, "--dry-run"])
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("mosd is left out: data folder mosd does not exist (POINT")
    assert len(lines) == 9 * 2
    study.run([*options, "--data", "mosd", "--dry-run"])
    assert len(capsys.readouterr().out.splitlines()) == 9


def test_a_failing_run_is_one_line_and_the_others_go_on(started, capsys):
    starter, options = started
    starter.fail = ("mosd-dos-seed0",)
    with pytest.raises(UserError, match=r"1 of 4 runs failed, .* mosd-dos-seed0"):
        study.run([*options, *FEW, "--jobs", "1"])
    shown = capsys.readouterr().out
    assert "mosd-dos-seed0: out of luck" in shown
    assert len(starter.names) == 4


def test_a_run_that_a_signal_stopped_is_not_passed_over(started, capsys):
    starter, options = started
    starter.fail, starter.code = ("mosd-dos-seed0",), 128 + signal.SIGTERM
    with pytest.raises(UserError, match=r"1 of 4 runs failed, .* mosd-dos-seed0"):
        study.run([*options, *FEW, "--jobs", "1"])
    assert "mosd-dos-seed0: a signal stopped it" in capsys.readouterr().out
    assert len(starter.names) == 4


def test_jobs_are_what_goes_at_a_time(started):
    starter, options = started
    study.run([*options, *FEW, "--jobs", "1", "--no-finetuning"])
    assert starter.most == 1
    assert set(starter.slots) == {0}


def test_heads_are_trained_where_that_is_asked_for(monkeypatch, tmp_path):
    left_out = []

    def start(each, args, jobs, slot):
        left_out.append(args.skip)
        return subprocess.Popen([sys.executable, "-S", "-c", ""])

    monkeypatch.setattr(study, "_start", start)
    words = ["--data", "mosd", "--rows", "dos", "--seeds", "0"]
    words += ["--out", str(tmp_path / "exp"), "--results", str(tmp_path / "docs")]
    study.run(words)
    study.run([*words, "--no-finetuning"])
    study.run([*words, "--trained-heads", "--skip", "semantics"])
    study.run([*words, "--quick"])
    heads = ("instances", "semantics")
    assert left_out == [
        heads,
        ("finetuning10", "finetuning100", *heads),
        ("semantics",),
        (),
    ]


def test_a_run_tunes_with_the_seeds_that_are_asked_for(fake, monkeypatch, tmp_path):
    def start(command, *given, **options):
        if "--unit" not in command:
            return run(command, *given, **options)
        study.run(command[command.index("study") + 1 :])
        return run([sys.executable, "-S", "-c", ""])

    run = subprocess.Popen
    monkeypatch.setattr(study.subprocess, "Popen", start)
    words = ["--data", "mosd", "--rows", "dos", "--seeds", "1", "2", "--jobs", "1"]
    words += ["--out", str(tmp_path / "exp"), "--results", str(tmp_path / "docs")]
    study.run([*words, "--tuned-seeds", "1"])
    done = [
        unit.read_result(tmp_path / f"docs/runs/mosd-dos-seed{seed}.json")["stages"]
        for seed in (1, 2)
    ]
    assert ["finetuning10" in stages for stages in done] == [True, False]


def test_a_signal_stops_the_runs_and_the_study(started):
    starter, options = started
    starter.wait = True
    timer = threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    with pytest.raises(SystemExit) as stopped:
        study.run([*options, *FEW, "--jobs", "2"])
    assert stopped.value.code == 128 + signal.SIGTERM
    assert starter.most == len(starter.names) == 2
    assert all(process.poll() is not None for process in starter.alive)


def test_the_report_alone_is_written_from_the_files(started, tmp_path, capsys):
    starter, options = started
    study.run([*options, *FEW, "--no-finetuning"])
    page = tmp_path / "docs/study-quick.md"
    before = page.read_text()
    page.unlink()
    study.run([*options, "--report"])
    assert page.read_text() == before
    assert len(starter.names) == 4


def test_the_readmes_tables_are_put_between_their_markers(fake, tmp_path, monkeypatch):
    results = tmp_path / "docs" / "study"
    readme = tmp_path / "README.md"
    first, second = begin("without labels"), begin("linear probes")
    readme.write_text(f"top\n{first}\n{END}\nmiddle\n{second}\n{END}\nbottom\n")
    options = ["--out", str(tmp_path / "exp"), "--results", str(results)]
    monkeypatch.setattr(study, "_start", Starter(options))
    few = ["--data", "mosd", "--rows", "dos", "--seeds", "0", "--no-finetuning"]
    study.run([*options, *few])
    text = readme.read_text()
    assert text.startswith(f"top\n{first}\n| without labels |")
    assert f"{END}\nmiddle\n{second}\n| linear probes |" in text
    assert text.endswith(f"{END}\nbottom\n")


def test_the_page_names_results_of_other_settings(started, tmp_path, monkeypatch):
    _, options = started
    study.run([*options, *FEW])
    page = tmp_path / "docs/study-quick.md"
    assert "other settings" not in page.read_text()
    path = tmp_path / "docs/study/runs/mosd-dos-seed1-quick.json"
    path.write_text(path.read_text().replace('"settings": "', '"settings": "x', 1))
    study.run([*options, "--report"])
    (line,) = [x for x in page.read_text().splitlines() if "other settings" in x]
    assert line.endswith("repeats them): mosd-dos-seed1 (pretraining).")


def test_without_results_there_is_no_page(tmp_path, capsys):
    study.run(["--report", "--results", str(tmp_path / "study")])
    assert "no results" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rows", "dso"], "did you mean 'dos'"),
        (["--data", "room"], "did you mean 'rooms'"),
        (["--size", "huge"], "it has small, quick, large, narrow, wide"),
    ],
)
def test_unknown_names_are_refused(words, message, tmp_path):
    with pytest.raises(UserError, match=message):
        study.run([*words, "--dry-run", "--results", str(tmp_path)])


def test_a_unit_is_a_process_with_its_share_of_the_cores(tmp_path, monkeypatch):
    seen = {}

    def popen(command, **options):
        seen.update(command=command, **options)

    monkeypatch.setattr(study.subprocess, "Popen", popen)
    monkeypatch.setattr(study, "_cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    parser = study.argparse.ArgumentParser()
    study.add_arguments(parser)
    args = parser.parse_args(["--out", str(tmp_path), "--results", "r"])
    args.out, args.skip = Path(args.out), ("semantics",)
    ladder = study.Ladder.read()
    (each,) = ladder.units(data=["mosd"], rows=["dos"], seeds=[3])
    monkeypatch.setattr(study, "_gpus", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    study._start(each, args, jobs=2, slot=1)
    assert seen["env"]["OMP_NUM_THREADS"] == "3"
    assert seen["env"]["CUDA_VISIBLE_DEVICES"] == "1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-7")
    for slot, name in enumerate(("2", "GPU-7", "2")):
        study._start(each, args, jobs=3, slot=slot)
        assert seen["env"]["CUDA_VISIBLE_DEVICES"] == name
    words = seen["command"]
    assert words[words.index("--unit") + 1] == "mosd/dos/3"
    assert words[words.index("--skip") + 1 :] == ["semantics"]
