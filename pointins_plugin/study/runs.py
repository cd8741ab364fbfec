"""Training runs, each in a process of its own, that go on where they were stopped.

A run's folder says in ``step.json`` what it was started with and whether it is done,
so that the same study goes on where it was stopped and refuses to mix two settings.
"""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pointins_plugin.errors import UserError
from pointins_plugin.files import make_folder, unwritable, write_text
from pointins_plugin.host import STOP_CODES, Config, StopSignals, plain_values
from pointins_plugin.paths import PACKAGE
from pointins_plugin.study.provenance import date, joined, provenance

RECORD, LOG, LOCK = "step.json", "console.log", ".lock"
_LAST = Path("model") / "model_last.pth"


@dataclass(frozen=True)
class Step:
    """One training run of a study.

    Attributes:
        title: for people.
        folder: of the run.
        config: file of its config.
        options: overrides as ``key=value``, the seed among them.
        start: the run whose last checkpoint this one starts from, or None.
        num_gpus: processes.
    """

    title: str
    folder: Path
    config: str
    options: tuple[str, ...] = ()
    start: "Step | None" = None
    num_gpus: int = 1

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint, which is there when the run is done."""
        return self.folder / _LAST


@dataclass(frozen=True)
class Record:
    """What a run's folder knows of it; plain values.

    Attributes:
        settings: a digest of the config's values, the overrides, and of the checkpoint
            it started from.
        seconds: wall time of all its attempts that ended.
        begun: when the attempt began that has not ended (seconds since the epoch).
        done: it ended as it should.
        digest: of its last checkpoint, "" until it is done.
        provenance: machine, and commit when it began (each, if it went on at
            another); the date of its end.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    begun: float | None = None
    done: bool = False
    digest: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> "Record | None":
        """Read the record of a folder, None where there is none.

        Raises:
            UserError: it is damaged.
        """
        path = folder / RECORD
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError):
            raise UserError(
                f"{path} cannot be read; delete {folder}, so that the run starts anew"
            ) from None

    def write(self, folder: Path) -> None:
        """Write it, whole or not at all."""
        write_json(folder / RECORD, vars(self))


def write_json(path: Path, value: Any) -> None:
    """Write plain values as JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def settings(step: Step) -> dict[str, Any]:
    """Return what decides the outcome of a run, as a record keeps it."""
    cfg = Config.fromfile(step.config)
    values = json.dumps(
        {key: plain_values(cfg[key]) for key in cfg}, sort_keys=True, default=repr
    )
    start = None
    if step.start is not None:
        record = Record.of(step.start.folder)
        start = record.digest if record is not None else ""
    return {
        "config": hashlib.sha256(values.encode()).hexdigest()[:16],
        "options": list(step.options),
        "start": start,
        "num_gpus": step.num_gpus,
    }


def state(step: Step) -> str:
    """Return ``"done"``, ``"begun"`` or ``"to do"``.

    Raises:
        UserError: the folder is another study's, or holds a run of other settings.
    """
    record = Record.of(step.folder)
    if record is None:
        if (step.folder / "config.py").is_file():
            raise UserError(
                f"{step.folder} holds a run that this command did not start; name "
                "another --out"
            )
        return "to do"
    now = settings(step)
    odd = [key for key in now if record.settings.get(key) != now[key]]
    if odd and not step.checkpoint.is_file():
        return "to do"  # it ended before anything was trained
    if odd:
        raise UserError(
            f"{step.folder} was run with other settings ({', '.join(odd)}); delete it "
            "to run it anew, or name another --out"
        )
    if record.done and step.checkpoint.is_file():
        return "done"
    return "begun" if step.checkpoint.is_file() else "to do"


def run_step(step: Step) -> Record:
    """Train a step to its end, from its last checkpoint if it was stopped.

    Raises:
        UserError: it failed, with the last line it printed; or another process is
            running it.
        SystemExit: a signal stopped it; it saved where it was.
        KeyboardInterrupt: a second Ctrl-C stopped it before it had.
    """
    with _locked(step.folder) as lock:
        before = state(step)
        record = Record.of(step.folder)
        if before == "done":
            return record
        now = settings(step)
        made, spent = provenance(), 0.0
        if before == "begun":
            spent = _seconds(step, record)
            made["commit"] = joined(record.provenance.get("commit"), made["commit"])
        record = Record(now, spent, time.time(), provenance=made)
        record.write(step.folder)
        source, options = step.config, list(step.options)
        if before == "begun":
            source = str(step.folder / "config.py")
            options = ["resume=True", f"weight={step.checkpoint}"]
        elif step.start is not None:
            options.append(f"weight={step.start.checkpoint}")
        started = time.perf_counter()
        try:
            _train(step, source, [*options, f"save_path={step.folder}"], lock)
            record = replace(
                record,
                done=True,
                digest=_digest(step.checkpoint),
                provenance={**made, "date": date()},
            )
        finally:
            spent += time.perf_counter() - started
            record = replace(record, seconds=spent, begun=None)
            record.write(step.folder)
        return record


def _seconds(step: Step, record: Record) -> float:
    """Return the wall time behind a checkpoint; a killed attempt counts up to it."""
    if record.begun is None:
        return record.seconds
    return record.seconds + max(0.0, step.checkpoint.stat().st_mtime - record.begun)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[int | None]:
    """Hold a run's folder, so that two processes never train in it.

    The lock goes on to the training process, which outlives a study that was killed.
    """
    try:
        import fcntl
    except ImportError:  # not on this system
        yield None
        return
    try:
        lock = open(make_folder(folder) / LOCK, "w")
    except OSError as error:
        raise unwritable(folder / LOCK, error) from None
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"{folder} is being run by another process; wait for its end, or stop "
                "it, and run the command again"
            ) from None
        yield file.fileno()


def _train(
    step: Step, source: str, options: Sequence[str], lock: int | None = None
) -> None:
    """Run the process to its end; its checkpoint is there then."""
    log = step.folder / LOG
    words = ["train", "--config-file", source, "--num-gpus", str(step.num_gpus)]
    command = [sys.executable, "-m", "pointins_plugin.cli", *words]
    with open(log, "ab") as file:
        process = subprocess.Popen(
            [*command, "--options", *options],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=child_environment(),
            pass_fds=() if lock is None else (lock,),
        )
        # The run is let to save where it is, whatever stops the study.
        notice = "stopping when the run has saved; Ctrl-C again stops at once"
        with StopSignals(forward=[process.pid], notice=notice):
            try:
                code = process.wait()
            except KeyboardInterrupt:
                process.wait()
                raise
    if code in STOP_CODES:
        raise SystemExit(code)
    if code or not step.checkpoint.is_file():
        raise UserError(
            f"{step.title} failed ({last_line(log)}); what it printed is in {log}; "
            "the same command goes on from here"
        )


def child_environment() -> dict[str, str]:
    """Return this process's environment, with this package among what is importable."""
    path = [os.environ.get("PYTHONPATH", ""), str(PACKAGE.parent)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}


def last_line(path: Path) -> str:
    """Return the last line of a log that says something."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 8192))
        lines = file.read().decode("utf-8", "replace").splitlines()
    said = [line.strip() for line in lines if line.strip()]
    last = said[-1] if said else "it printed nothing"
    return last.removeprefix("pointins: error: ")


def _digest(path: Path) -> str:
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            total.update(part)
    return total.hexdigest()[:16]
