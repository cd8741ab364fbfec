"""Where the time of a training step goes, and what its floor is.

    python benchmarks/step_profile.py [--networks demo half] [--steps 5]
        [--device cuda --amp bfloat16] [--json FILE]

Parts are timed from outside (on CUDA with a wait before and after each, so that they do
not overlap). The floor is the step's matrix products at the rate the machine reaches on
a large product of the same type; bytes are those of its parameters and of what is kept
for the backward pass, read and written once at the rate of a large copy.
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from alternation import report
from branch_step import Step, batches, configure
from torch.utils.flop_counter import FlopCounterMode


class Parts:
    """Seconds of named parts of a step, without those of parts inside them."""

    def __init__(self, device: str):
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside: list[float] = []

    def wrap(self, function: Callable, name: Callable[..., str] | str) -> Callable:
        """Return the function, timed under a name or one made of its arguments."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            label = name if isinstance(name, str) else name(*args)
            self._wait()
            start = time.perf_counter()
            self._inside.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                self._wait()
                whole = time.perf_counter() - start
                self.seconds[label] += whole - self._inside.pop()
                if self._inside:
                    self._inside[-1] += whole

        return timed

    def _wait(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()


def attach(step: Step, parts: Parts) -> None:
    """Time the parts of a step."""
    model = step.model
    teacher = model.teacher

    def owner(word: str) -> Callable[..., str]:
        return lambda modules, *_: (
            f"{word}, {'teacher' if modules is teacher else 'student'}"
        )

    model._tokens = parts.wrap(model._tokens, owner("backbone forward"))
    model._offsets = parts.wrap(model._offsets, owner("offset head"))
    model._match = parts.wrap(model._match, "matching")
    model._masked_views = parts.wrap(model._masked_views, "masking")
    objective = model.semantic
    outputs = parts.wrap(objective.teacher_outputs, "semantic head, teacher")
    objective.teacher_outputs = outputs
    objective.forward = parts.wrap(objective.forward, "semantic loss")
    branch = model.offset_branch
    branch.targets = parts.wrap(branch.targets, "offset targets (ODR, SCR, planes)")
    branch.forward = parts.wrap(branch.forward, "offset loss")


def kept_bytes(step: Step, batch: dict) -> int:
    """Return the bytes that a forward pass keeps for its backward pass."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = step.forward(batch)
    del loss
    return sum(kept.values())


def rates(device: str, dtype: torch.dtype) -> tuple[float, float]:
    """Return the machine's FLOP and bytes a second, of a product and of a copy."""

    def best(function: Callable[[], Any]) -> float:
        times = []
        for _ in range(5):
            if device != "cpu":
                torch.cuda.synchronize()
            start = time.perf_counter()
            function()
            if device != "cpu":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return min(times)

    size = 1024 if device == "cpu" else 8192
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    source = torch.zeros(1 << 26, device=device)
    target = torch.empty_like(source)
    product, copy = best(lambda: a @ b), best(lambda: target.copy_(source))
    return 2 * size**3 / product, 2 * source.nbytes / copy


def profile(name: str, steps: int, device: str, amp: str | None) -> list[dict]:
    """Return the rows of one network."""
    cfg = configure(name, None, device)
    data = batches(cfg, device)
    step = Step(cfg, cfg.model.offset_branch, device, amp)
    step(data[0], 0)
    counter = FlopCounterMode(display=False)
    with counter:
        step(data[0], 0)
    size = kept_bytes(step, data[0])
    size += 4 * sum(p.nbytes for p in step.model.student.parameters())
    parts, wholes = Parts(device), []
    attach(step, parts)
    step.forward = parts.wrap(step.forward, "the rest of forward")
    step.backward = parts.wrap(step.backward, "backward")
    step.optimizer.step = parts.wrap(step.optimizer.step, "optimizer")
    for index in range(steps):
        wholes.append(step(data[index % len(data)], index)[0])
    whole = sum(wholes)
    flops, speed = rates(device, step.dtype or torch.float32)
    rows = [
        {
            "network": name,
            "part": part,
            "ms": 1e3 * seconds / steps,
            "share_percent": 100 * seconds / whole,
        }
        for part, seconds in sorted(parts.seconds.items(), key=lambda item: -item[1])
    ]
    found = {
        "step, median": 1e3 * statistics.median(wholes),
        f"floor: {counter.get_total_flops() / 1e9:.1f} GFLOP of products at "
        f"{flops / 1e9:.0f} GFLOP/s": 1e3 * counter.get_total_flops() / flops,
        f"floor: {2 * size / 2**30:.2f} GiB at {speed / 2**30:.1f} GiB/s": 1e3
        * 2
        * size
        / speed,
    }
    for part, milliseconds in found.items():
        share = 100 * milliseconds * steps / (1e3 * whole)
        rows.append(
            {"network": name, "part": part, "ms": milliseconds, "share_percent": share}
        )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=["demo", "half"])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--amp", help="bfloat16 or float16")
    parser.add_argument("--json")
    args = parser.parse_args()
    rows = []
    for name in args.networks:
        rows += profile(name, args.steps, args.device, args.amp)
    report(rows, args.json)


if __name__ == "__main__":
    main()
