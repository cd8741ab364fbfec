"""`pointins compare`: its plan, its table, and runs that stop and go on."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny_run

from pointins_plugin.cli import main
from pointins_plugin.commands import compare
from pointins_plugin.errors import UserError
from pointins_plugin.host import Config
from pointins_plugin.paths import config_root
from pointins_plugin.study import runs
from pointins_plugin.study.runs import Record, Step
from pointins_plugin.study.scores import summary

CONFIGS = config_root() / "pointins"
NAMES = ("mosd-pretrain", "mosd-pretrain-dos", "mosd-insseg-lin")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Three configs as runs of seconds, by name."""
    folder = tmp_path_factory.mktemp("compare")
    data = tiny_run.TinyData(folder / "data")
    files = {}
    for name in NAMES:
        cfg = tiny_run.tiny(Config.fromfile(CONFIGS / f"{name}.py"), data, folder)
        cfg.weight, cfg.num_threads, cfg.test = None, 1, None
        if "pretrain" in name:
            cfg.epoch = cfg.eval_epoch = 3
        files[name] = str(folder / f"{name}.py")
        cfg.dump(files[name])
    return files


def words(small, out, *names, seeds=("0",), probes=("mosd-insseg-lin",), options=()):
    configs = [small.get(name, name) for name in names]
    probe_files = [small[probe] for probe in probes]
    words = ["--configs", *configs, "--seeds", *seeds, "--out", str(out)]
    return [*words, "--probes", *probe_files, *options]


class FakeTraining:
    """In the place of the training process: writes reports, fails or stops on wish."""

    def __init__(self, fail=()):
        self.fail = set(fail)
        self.started = []

    def __call__(self, step, source, options, lock=None):
        run = f"{step.folder.parent.parent.name}/{step.folder.parent.name}"
        self.started.append(f"{run}/{step.folder.name}")
        if self.started[-1] in self.fail:
            raise UserError(f"{step.title} failed (out of luck)")
        seed = int(step.folder.parent.name.removeprefix("seed"))
        Config.fromfile(step.config).dump(step.folder / "config.py")
        if "insseg" in step.folder.name:
            report = {"map": 10.0 + 3 * seed, "ap50": 20.0 + seed, "ap25": None}
            name = "instance_ap.json"
        else:
            methods = {"components": {"map": 1.0, "ap50": 2.0, "ap25": 3.0}}
            report = {"methods": methods, "offset_r2": 0.5, "offset_cosine": 0.7}
            name = "label_free.json"
        (step.folder / name).write_text(json.dumps(report))
        step.checkpoint.parent.mkdir(exist_ok=True)
        step.checkpoint.write_text(f"{options}")


@pytest.fixture
def fake(monkeypatch):
    training = FakeTraining()
    monkeypatch.setattr(runs, "_train", training)
    return training


def test_table_is_mean_and_sample_deviation(small, fake, tmp_path, capsys):
    names = ("mosd-pretrain", "mosd-pretrain-dos")
    compare.run(words(small, tmp_path, *names, seeds=("0", "1", "2")))
    shown = capsys.readouterr().out
    table = (tmp_path / "table.md").read_text()
    assert table in shown
    # 10, 13, 16: mean 13, squares 9 + 0 + 9 over 2
    assert "13.0 ± 3.0 | 21.0 ± 1.0 | - |" in table
    numbers = json.loads((tmp_path / "table.json").read_text())
    row = numbers["stages"]["mosd-insseg-lin"]["mosd-pretrain-dos"]
    assert row["seeds"] == [0, 1, 2]
    assert row["scores"]["AP"]["values"] == [10, 13, 16]
    assert row["scores"]["AP"]["mean"] == 13
    assert row["scores"]["AP"]["std"] == pytest.approx(3)
    assert row["scores"]["AP25"] == {
        "values": [None, None, None],
        "mean": None,
        "std": None,
    }
    assert row["seconds"]["mean"] > 0
    assert len(row["provenance"]) == 3
    assert {"date", "commit", "machine"} <= numbers.keys()
    assert numbers["data"]["mosd-insseg-lin"]["val"]["scenes"] == 2
    assert "2 scenes to train, 2 scenes to evaluate" in table


def test_summary_of_one_and_of_none():
    assert summary([4.0]) == {"values": [4.0], "mean": 4.0, "std": None}
    assert summary([float("nan")])["mean"] is None
    known = summary([1.0, float("nan"), 3.0])
    assert known["mean"] == 2.0
    assert known["std"] == pytest.approx(math.sqrt(2))


def test_done_runs_are_not_repeated(small, fake, tmp_path, capsys):
    every = words(small, tmp_path, "mosd-pretrain", seeds=("0", "1"))
    compare.run(every)
    assert len(fake.started) == 4
    compare.run([*every, "--dry-run"])
    compare.run(every)
    assert len(fake.started) == 4
    compare.run(words(small, tmp_path, "mosd-pretrain", seeds=("0", "1", "2")))
    assert fake.started[4:] == [
        "mosd-pretrain/seed2/pre-training",
        "mosd-pretrain/seed2/mosd-insseg-lin",
    ]


def test_dry_run_starts_nothing(small, fake, tmp_path, capsys):
    compare.run([*words(small, tmp_path / "out", "mosd-pretrain"), "--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["to", "do"]] * 2
    assert not fake.started
    assert not (tmp_path / "out").exists()


def test_other_settings_are_refused(small, fake, tmp_path):
    compare.run(words(small, tmp_path, "mosd-pretrain"))
    options = ("--options", "clip_grad=1.0")
    with pytest.raises(UserError, match=r"other settings \(options\)"):
        compare.run(words(small, tmp_path, "mosd-pretrain", options=options))
    changed = tmp_path / "mosd-pretrain.py"
    text = Path(small["mosd-pretrain"]).read_text()
    changed.write_text(text + "\nclip_grad = 7.0\n")
    with pytest.raises(UserError, match=r"other settings \(config\)"):
        compare.run(words({**small, "mosd-pretrain": str(changed)}, tmp_path, NAMES[0]))
    # another checkpoint to start from
    folder = tmp_path / "mosd-pretrain" / "seed0"
    record = Record.of(folder / "pre-training")
    Record(**{**vars(record), "digest": "other"}).write(folder / "pre-training")
    with pytest.raises(UserError, match=r"other settings \(start\)"):
        compare.run(words(small, tmp_path, "mosd-pretrain"))


def test_settings_that_trained_nothing_may_be_mended(small, fake, tmp_path, capsys):
    """As after a mistyped option, which ends a run before it saves anything."""
    fake.fail = {"mosd-pretrain/seed0/pre-training"}
    with pytest.raises(UserError, match="2 of 2 runs are not done"):
        compare.run(
            words(small, tmp_path, NAMES[0], options=("--options", "clip_grda=1.0"))
        )
    fake.fail = ()
    compare.run(
        words(small, tmp_path, NAMES[0], options=("--options", "clip_grad=1.0"))
    )
    record = Record.of(tmp_path / NAMES[0] / "seed0" / "pre-training")
    assert record.done
    assert "clip_grad=1.0" in record.settings["options"]


def test_a_folder_of_something_else_is_refused(small, fake, tmp_path):
    folder = tmp_path / "mosd-pretrain" / "seed0" / "pre-training"
    folder.mkdir(parents=True)
    (folder / "config.py").write_text("seed = 0\n")
    with pytest.raises(UserError, match="did not start"):
        compare.run(words(small, tmp_path, "mosd-pretrain"))


def test_a_folder_that_cannot_be_written_starts_nothing(small, fake, tmp_path):
    out = tmp_path / "out"
    out.write_text("kept")
    with pytest.raises(UserError, match=r"cannot write .*out is a file"):
        compare.run(words(small, out, "mosd-pretrain"))
    assert not fake.started
    assert out.read_text() == "kept"


def test_a_run_whose_folder_cannot_be_made_is_told(small, fake, tmp_path, capsys):
    (tmp_path / "mosd-pretrain").write_text("kept")
    with pytest.raises(UserError, match="2 of 2 runs are not done"):
        compare.run(words(small, tmp_path, "mosd-pretrain"))
    assert "mosd-pretrain is a file, not a folder" in capsys.readouterr().out
    assert not fake.started


def test_a_failing_run_is_one_line_and_the_others_go_on(small, fake, tmp_path, capsys):
    fake.fail = {"mosd-pretrain/seed0/pre-training"}
    every = words(small, tmp_path, "mosd-pretrain", "mosd-pretrain-dos")
    with pytest.raises(UserError, match="2 of 4 runs are not done"):
        compare.run(every)
    shown = capsys.readouterr().out
    assert re.search(r"^\[1/4\] .*failed \(out of luck\)$", shown, re.M)
    assert re.search(r"^\[2/4\] .*left out", shown, re.M)
    assert "mosd-pretrain-dos/seed0/mosd-insseg-lin" in fake.started
    fake.fail = set()
    compare.run(every)
    assert "| mosd-pretrain | 10.0 |" in (tmp_path / "table.md").read_text()


def test_the_process_says_in_its_last_line_why_it_failed(small, tmp_path, capsys):
    bad = ("--options", "data.train.data_root=nowhere")
    every = words(small, tmp_path, "mosd-pretrain", probes=(), options=bad)
    with pytest.raises(UserError):
        compare.run(every)
    (line,) = re.findall(r"failed \((.*)\); what", capsys.readouterr().out)
    assert "nowhere" in line


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (("mosd-pretrain", "mosd-pretrain"), (), "--configs: mosd-pretrain is named"),
        (("mosd-pretrain",), ("--seeds", "1", "1"), "--seeds: 1 is named twice"),
        (("mosd-pretran",), (), "did you mean"),
        (("mosd-pretrain", "rooms-pretrain"), (), "name no probes that all share"),
        (("untrained",), ("--probes",), "needs something to probe"),
        (
            ("rooms-pretrain-spunet",),
            ("--probes", "rooms-insseg-lin"),
            "trains a backbone of type=SpUNet-v1m1",
        ),
        (("mosd-pretrain", "untrained"), ("--probes", "mosd-insseg-ft"), None),
        (("untrained",), ("--probes", "mosd-insseg-scratch"), "no PretrainedLoader"),
    ],
)
def test_plans_that_make_no_sense(names, options, message, tmp_path):
    given = ["--configs", *names, *options, "--out", str(tmp_path), "--dry-run"]
    if message is None:
        compare.run(given)
        return
    with pytest.raises(UserError, match=message):
        compare.run(given)


def test_default_probes_fit_data_and_backbone():
    def stems(probes):
        return [Path(probe).stem for probe in probes]

    probes = compare.default_probes(["rooms-pretrain", "untrained"])
    assert stems(probes["rooms-pretrain"]) == ["rooms-insseg-lin", "rooms-semseg-lin"]
    assert probes["untrained"] == probes["rooms-pretrain"]
    probes = compare.default_probes(["streets-pretrain"])
    assert stems(probes["streets-pretrain"]) == [
        "streets-panoptic-lin",
        "streets-semseg-lin",
    ]


def test_sparse_backbones_are_probed_by_their_own_and_share_the_table(tmp_path):
    names = ["rooms-pretrain-spunet", "rooms-pretrain", "untrained"]
    probes = compare.default_probes(names)
    first = [Path(probe).stem for probe in probes["rooms-pretrain-spunet"]]
    assert first == ["rooms-insseg-lin-spunet", "rooms-semseg-lin-spunet"]
    assert probes["untrained"] == probes["rooms-pretrain-spunet"]
    steps = [
        Step(
            "", tmp_path / stem / "seed0" / Path(probes[stem][0]).stem, probes[stem][0]
        )
        for stem in names[:2]
    ]
    assert {compare.stage_of(step) for step in steps} == {"rooms-insseg-lin"}
    compare.run(["--configs", *names[:2], "--out", str(tmp_path), "--dry-run"])


def test_an_untrained_backbone_is_probed_as_it_starts(tmp_path, capsys):
    args = ["--configs", "mosd-pretrain", "untrained", "--out", str(tmp_path)]
    compare.run([*args, "--dry-run"])
    titles = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert titles[-2:] == [
        "to do  untrained seed 0, mosd-insseg-lin",
        "to do  untrained seed 0, mosd-semseg-lin",
    ]
    assert len(titles) == 5


def test_a_damaged_report_is_named(small, fake, tmp_path):
    every = words(small, tmp_path, "mosd-pretrain")
    compare.run(every)
    report = tmp_path / "mosd-pretrain/seed0/mosd-insseg-lin/instance_ap.json"
    report.write_text("{")
    with pytest.raises(UserError, match="cannot be read; delete"):
        compare.run(every)


def test_two_studies_do_not_share_a_folder(small, fake, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    folder = tmp_path / "mosd-pretrain" / "seed0" / "pre-training"
    folder.mkdir(parents=True)
    with open(folder / runs.LOCK, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="2 of 2 runs are not done"):
            compare.run(words(small, tmp_path, "mosd-pretrain"))
    compare.run(words(small, tmp_path, "mosd-pretrain"))


def test_killed_at_any_moment_it_goes_on(small, tmp_path):
    """SIGKILL to all its processes after the first checkpoint; then once more."""
    given = ["compare", *words(small, tmp_path, "mosd-pretrain")]
    process = subprocess.Popen(
        [sys.executable, "-m", "pointins_plugin.cli", *given],
        env=runs.child_environment(),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    folder = tmp_path / "mosd-pretrain" / "seed0" / "pre-training"
    last = folder / "model" / "model_last.pth"
    deadline = time.monotonic() + 120
    while not last.is_file() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    record = Record.of(folder)
    assert not record.done
    assert record.begun is not None
    assert main(given) == 0
    log = (folder / "train.log").read_text()
    assert log.count("Train: [1/3]") == 1  # the first epoch was not repeated
    record = Record.of(folder)
    assert record.done
    assert record.provenance["machine"]["cores"] >= 1
    probe = tmp_path / "mosd-pretrain" / "seed0" / "mosd-insseg-lin"
    assert "keys of the backbone matched" in (probe / "train.log").read_text()
    numbers = json.loads((tmp_path / "table.json").read_text())
    for stage in ("pre-training", "mosd-insseg-lin"):
        assert numbers["stages"][stage]["mosd-pretrain"]["seeds"] == [0]
