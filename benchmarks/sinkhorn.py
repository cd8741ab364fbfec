"""Zipf-Sinkhorn beside a plain implementation in the log domain.

    python benchmarks/sinkhorn.py [--points 20000] [--prototypes 1024] [--json FILE]

Cosines over a temperature of 0.1, as DOS has them; *any logits* is the log domain that
wider ranges take. Plans are compared. Memory is what a call adds to a process at its
peak, the plan included.
"""

import argparse

import torch
from alternation import alternate, compare, report
from memory import peak_mib

from pointins_plugin.ops.sinkhorn import sinkhorn, zipf_weights

TEMPERATURE = 0.1


def make_logits(points: int, prototypes: int) -> torch.Tensor:
    """Return (N, K) cosines over the temperature."""
    generator = torch.Generator().manual_seed(0)
    feature = torch.randn(points, 64, generator=generator)
    prototype = torch.randn(prototypes, 64, generator=generator)
    normalise = torch.nn.functional.normalize
    return normalise(feature) @ normalise(prototype).t() / TEMPERATURE


def plain(logits: torch.Tensor, mass: torch.Tensor, rounds: int) -> torch.Tensor:
    """Return the plan; rows and columns of the logarithm are normalised in turns."""
    plan = logits.clone()
    for _ in range(rounds):
        plan = plan - torch.logsumexp(plan, dim=1, keepdim=True)
        plan = plan - torch.logsumexp(plan, dim=0, keepdim=True) + mass.log()
    return plan.exp()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--prototypes", type=int, default=1024)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json")
    args = parser.parse_args()
    logits = make_logits(args.points, args.prototypes)
    mass = zipf_weights(args.prototypes, 1.0)

    def ours() -> torch.Tensor:
        return sinkhorn(logits, mass, args.iterations, log_range=2 / TEMPERATURE)

    def log_domain() -> torch.Tensor:
        return sinkhorn(logits, mass, args.iterations, log_range=1e3)

    def naive() -> torch.Tensor:
        return plain(logits, mass, args.iterations)

    expected = naive()
    for function in (ours, log_domain):
        error = (function() - expected).abs().max() / expected.max()
        assert error < 1e-4, f"the plans differ by {error}"
    size = f"{args.points:,} x {args.prototypes}, {args.iterations} rounds"
    rows = []
    peer = peak_mib(naive)
    for name, function in (("bounded logits", ours), ("any logits", log_domain)):
        functions = {"ops.sinkhorn": function, "plain log-domain torch": naive}
        times = alternate(functions, args.rounds)
        note = f"memory {peak_mib(function):,.0f} MiB, theirs {peer:,.0f} MiB"
        what = f"Zipf-Sinkhorn, {name}"
        rows += compare(what, times, size, target=2.0, note=note)
    report(rows, args.json)


if __name__ == "__main__":
    main()
