"""The command line: one line and exit code 2 for what a user can put right."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pointins_plugin import __version__, host
from pointins_plugin.cli import COMMANDS, main

ROOT = Path(__file__).resolve().parents[1]


def fails(capsys, words):
    """Run, expect exit code 2 and one line; return it."""
    assert main(words) == 2
    error = capsys.readouterr().err.strip().splitlines()
    lines = [line for line in error if line.startswith("pointins: error: ")]
    assert len(lines) == 1
    return lines[0]


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"pointins {__version__}"
    assert main([]) == 0
    listing = capsys.readouterr().out
    assert all(name in listing for name in COMMANDS)


@pytest.mark.parametrize("words", [["--version"], ["--help"], []])
def test_version_and_help_wait_for_nothing(tmp_path, words):
    for package in ("torch", "numpy", "scipy", "addict"):
        (tmp_path / f"{package}.py").write_text("raise SystemExit('imported')")
    script = tmp_path / "pointins"  # as pip writes it
    script.write_text(
        "import sys\nfrom pointins_plugin.cli import main\nsys.exit(main())\n"
    )
    module = "pointins_plugin.cli"
    for start in ([str(script)], ["-m", module], [f"-m{module}"], ["-um", module]):
        done = subprocess.run(
            [sys.executable, *start, *words],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "pointins" in done.stdout


def test_other_programs_always_register(tmp_path):
    # a program whose own argument is --help or doctor is not the command
    script = tmp_path / "other.py"
    script.write_text("import pointins_plugin\nprint(pointins_plugin.load.__name__)\n")
    done = subprocess.run(
        [sys.executable, str(script), "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.stdout == "load\n"


def documented():
    """Return the commands of docs/commands.md, each with the options it is given."""
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    calls = re.findall(r"^    (?:\$ )?pointins (.+)", text.replace("\\\n", ""), re.M)
    return [
        (call.split()[0], set(re.findall(r" (--?[a-z][\w-]*)", call))) for call in calls
    ]


def test_every_command_is_documented_with_options_that_exist(capsys):
    assert {name for name, _ in documented()} == set(COMMANDS)
    for name, options in documented():
        with pytest.raises(SystemExit) as end:
            main([name, "--help"])
        assert end.value.code == 0
        known = set(re.findall(r"--?[a-z][\w-]*", capsys.readouterr().out))
        assert options <= known, name


def test_pointcept_under_torchrun_is_refused(capsys, monkeypatch):
    """Each process would train by itself, all into one folder."""
    monkeypatch.setattr(host, "HOST", "pointcept")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "8")
    words = ["train", "--config-file", "pointins/demo-pretrain"]
    assert "use --num-gpus" in fails(capsys, words)


def test_unknown_command_suggests(capsys):
    assert "did you mean 'train'" in fails(capsys, ["trian"])


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        ("pointins/demo-pretran", [], "did you mean 'pointins/demo-pretrain'"),
        ("pointins/demo-pretrain", ["batch_sise=1"], "did you mean 'batch_size'"),
        ("pointins/demo-pretrain", ["seed"], "write it as key=value"),
        ("pointins/demo-pretrain", ["model.type=PointIN"], "did you mean 'PointINS'"),
        (
            "pointins/demo-pretrain",
            ["model.offset_branch.scr.graph=knn"],
            "graph must be one of",
        ),
        (
            "pointins/demo-pretrain",
            ["model.offset_branch.prior.type=lognormal"],
            "did you mean 'log_normal'",
        ),
        (
            "pointins/demo-pretrain",
            ["batch_size=3", "epoch=3", "eval_epoch=2"],
            "multiple",
        ),
        ("pointins/demo-pretrain", ["weight=none.pth"], "none.pth does not exist"),
        (
            "pointins/scannet-pretrain",
            ["data.train.data_root=nowhere"],
            "nowhere/train does not exist; get ScanNet",
        ),
    ],
)
def test_mistakes_are_one_line(capsys, tmp_path, config, options, message):
    small = [
        f"save_path={tmp_path / 'run'}",
        "num_worker=0",
    ]
    if "demo" in config:
        small += ["data.train.num_scenes=1", "data.val.num_scenes=1"]
    else:
        small += ["batch_size=2", "model.backbone.enc_depths=(1,1,1,1,1)"]
        small += ["model.backbone.enc_channels=(8,8,8,8,8)", "param_dicts=None"]
        small += ["model.backbone.enc_num_head=(1,1,1,1,1)"]
    words = ["train", "--config-file", config, "--options", *small, *options]
    assert message in fails(capsys, words)


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--num-gpus", "-2"],
        ["train", "--num-machines", "0"],
        ["compare", "--configs", "mosd-pretrain", "--num-gpus", "-1", "--dry-run"],
        ["compare", "--configs", "mosd-pretrain", "--seeds", "-1", "--dry-run"],
        ["study", "--jobs", "-1", "--dry-run"],
        ["study", "--jobs", "0", "--dry-run"],
        ["predict", "no.ply", "-w", "no.pth", "--min-size", "-5"],
        ["fit-prior", "no", "--out", "no.json", "--seed", "-1"],
        ["demo", "--config", "none", "--threads", "0"],
    ],
)
def test_counts_that_make_no_sense(capsys, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    option = [word for word in words if word.startswith("--")]
    option = [word for word in option if word != "--dry-run"][-1]
    assert option in fails(capsys, words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_mistaken_options_are_one_line(capsys, command):
    for words in (["--no-such-option"], ["--options"], ["--out"], ["--seeds", "x"]):
        assert main([*filter(None, [command]), *words]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        assert f"; see pointins {command}".rstrip() + " --help\n" in error


def test_config_is_asked_for(capsys):
    assert "name a config" in fails(capsys, ["train"])


def test_a_process_of_its_own_exits_with_2(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pointins_plugin.cli",
            "check-data",
            str(tmp_path / "no"),
        ],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("script", "words", "message"),
    [
        ("train", [], "name a config"),
        ("train", ["-c", "x", "-r", "maybe"], "-r is true or false"),
        ("train", ["-x", "1"], "unknown option -x"),
        ("train", ["-c"], "-c needs a value"),
        ("test", [], "name a run"),
        ("test", ["-r", "true"], "unknown option -r"),
        ("test", ["-n"], "-n needs a value"),
        ("test", ["-n", "none"], "exp/pointins/none/config.py"),
    ],
)
def test_scripts_refuse_what_they_cannot_use(tmp_path, script, words, message):
    done = subprocess.run(
        ["sh", str(ROOT / "scripts" / f"{script}.sh"), *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (SystemExit(130), "pointins: stopped; {}\n"),
        (SystemExit(143), "pointins: stopped; {}\n"),
        (KeyboardInterrupt(), "pointins: interrupted; {}\n"),
        (SystemExit(0), ""),
        (SystemExit("said already"), ""),
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("train", "go on with -r true"),
        ("demo", "the same command goes on from there"),
    ],
)
def test_what_was_stopped_says_how_to_go_on(
    capsys, monkeypatch, command, hint, end, said
):
    def stops(words):
        raise end

    monkeypatch.setitem(COMMANDS, command, stops)
    if isinstance(end, SystemExit):
        with pytest.raises(SystemExit) as caught:
            main([command])
        assert caught.value.code == end.code
    else:
        assert main([command]) == 130
    assert capsys.readouterr().err == said.format(hint)
