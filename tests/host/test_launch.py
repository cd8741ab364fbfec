"""Several processes: exchanges between ranks, and how a failing one ends the run."""

import os
import signal
import threading
import time

import pytest
import torch

from pointins_plugin.errors import UserError
from pointins_plugin.host import comm, launch
from pointins_plugin.host.standalone.signals import StopSignals, exit_code


def _exchange(folder):
    rank = comm.get_rank()
    assert comm.get_world_size() == 2
    assert comm.is_main_process() == (rank == 0)
    mine = torch.tensor([float(rank + 1)])
    assert comm.all_reduce(mine).item() == 3
    assert comm.all_reduce(mine, average=True).item() == 1.5
    assert mine.item() == rank + 1
    assert comm.all_gather({"rank": rank}) == [{"rank": 0}, {"rank": 1}]
    assert comm.gather(rank) == ([0, 1] if rank == 0 else [])
    # ranks may fill their dictionaries in different orders
    values = {"a": torch.tensor(rank + 1.0), "b": torch.tensor(10.0 * rank)}
    order = sorted(values, reverse=rank == 1)
    mean = comm.reduce_dict({key: values[key] for key in order})
    assert (mean["a"].item(), mean["b"].item()) == (1.5, 5.0)
    comm.synchronize()
    open(os.path.join(folder, str(rank)), "w").close()


def _second_rank_fails(_):
    if comm.get_rank() == 1:
        raise UserError("scene kitchen has no points")
    time.sleep(600)


def _second_rank_is_killed(_):
    if comm.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


def test_ranks_exchange(tmp_path):
    launch(_exchange, 2, cfg=(str(tmp_path),))
    assert sorted(os.listdir(tmp_path)) == ["0", "1"]


def test_alone_there_is_nothing_to_exchange():
    assert comm.get_world_size() == 1
    assert comm.all_gather("x") == comm.gather("x") == ["x"]
    assert comm.all_reduce(torch.ones(2)).tolist() == [1, 1]
    assert comm.reduce_dict({"a": 1}) == {"a": 1}
    comm.synchronize()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (_second_rank_fails, r"^scene kitchen has no points$"),
        (_second_rank_is_killed, r"process 1 of 2 ended with SIGKILL"),
    ],
)
def test_a_failing_process_is_one_line_and_ends_the_others(function, message):
    start = time.time()
    with pytest.raises(UserError, match=message):
        launch(function, 2, cfg=(None,))
    assert time.time() - start < 300


def test_several_machines_need_an_address():
    with pytest.raises(UserError, match="--dist-url"):
        launch(_exchange, 1, num_machines=2, cfg=(None,))


def test_torchrun_is_joined(monkeypatch, tmp_path):
    """RANK and WORLD_SIZE are set: this process is one of the group."""
    seen = []
    for key, value in {
        "RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(20000 + os.getpid() % 20000),
    }.items():
        monkeypatch.setenv(key, value)
    launch(lambda: seen.append(torch.distributed.is_initialized()), 8)
    assert seen == [True]
    assert not torch.distributed.is_initialized()


def _waits_for_a_signal(folder):
    with StopSignals() as stop:
        open(os.path.join(folder, f"ready {comm.get_rank()}"), "w").close()
        while stop.number is None:
            time.sleep(0.01)
    open(os.path.join(folder, f"{stop.number} {comm.get_rank()}"), "w").close()
    comm.synchronize()
    raise SystemExit(exit_code(stop.number))


def test_a_signal_to_the_launcher_reaches_its_processes(tmp_path):
    """And the launcher ends when they have, with the signal's exit code."""

    def send():
        while len(os.listdir(tmp_path)) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=send, daemon=True).start()
    with pytest.raises(SystemExit) as error:
        launch(_waits_for_a_signal, 2, cfg=(str(tmp_path),))
    assert error.value.code == 143
    assert {"15 0", "15 1"} < set(os.listdir(tmp_path))
