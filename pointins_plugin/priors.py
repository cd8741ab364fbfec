"""Priors on instance offsets: quantile tables of their length and direction.

A prior is a table of 1001 quantiles with linear interpolation between them, so that
a formula, a sample and a fit are one kind of object, which a checkpoint can hold.
"""

import difflib
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from pointins_plugin.errors import UserError
from pointins_plugin.files import write_text

NUM_KNOTS = 1001

# Knot i stands at i / 1000, the two end knots half a step inside: at 0 and 1 a long
# tail is infinite, and the extremes of a sample are its least certain values.
LEVELS = np.linspace(0.0, 1.0, NUM_KNOTS)
LEVELS[[0, -1]] = 0.5 / (NUM_KNOTS - 1), 1 - 0.5 / (NUM_KNOTS - 1)
LEVELS.flags.writeable = False

FAMILIES = ("log_normal", "gamma", "weibull", "empirical")

# Enough for 1001 quantiles and for the fits; keeps scipy's optimisers fast.
MAX_FIT_SAMPLES = 200_000


def interpolate_quantile(table: Tensor, u: Tensor) -> Tensor:
    """Return the quantiles of a table at levels ``u``, linear between knots.

    Args:
        table: (1001,) values at ``LEVELS``.
        u: any shape, levels; outside the end knots (.0005, .9995) they are clipped.

    Returns:
        the shape of ``u``, with the dtype and device of the table.
    """
    u = u.to(table).clamp(LEVELS[0], LEVELS[-1])
    steps = NUM_KNOTS - 1
    index = (u * steps).long().clamp(0, steps - 1)
    lower = (index.to(table) / steps).clamp(min=LEVELS[0])
    upper = ((index + 1).to(table) / steps).clamp(max=LEVELS[-1])
    weight = ((u - lower) / (upper - lower)).clamp(0, 1)
    return torch.lerp(table[index], table[index + 1], weight)


class MagnitudePrior:
    """Distribution of offset lengths, metres, as a quantile table.

    Build one with ``log_normal``, ``gamma``, ``weibull``, ``empirical``, ``fit``,
    ``from_labels``, ``label_free``, ``from_table`` or ``load``.

    Args:
        table: (1001,) lengths at the probabilities ``LEVELS``, metres, ascending.
        provenance: where it comes from, as JSON values (kind, parameters, data,
            date, count).

    Raises:
        UserError: the table has another size, falls, or holds lengths that are
            negative, not finite or mostly zero.

    Source: PointINS, magnitude prior of ODR; the table is ours.
    """

    def __init__(self, table: Any, provenance: dict[str, Any] | None = None):
        self.table = _check_table(table)
        self.table.flags.writeable = False
        self.provenance = dict(provenance or {})

    @classmethod
    def log_normal(cls, median: float, sigma: float) -> "MagnitudePrior":
        """Log-normal lengths: median in metres, sigma of their logarithm."""
        return cls._parametric("log_normal", median=median, sigma=sigma)

    @classmethod
    def gamma(cls, shape: float, scale: float) -> "MagnitudePrior":
        """Gamma lengths: shape without unit, scale in metres."""
        return cls._parametric("gamma", shape=shape, scale=scale)

    @classmethod
    def weibull(cls, shape: float, scale: float) -> "MagnitudePrior":
        """Weibull lengths: shape without unit, scale in metres."""
        return cls._parametric("weibull", shape=shape, scale=scale)

    @classmethod
    def _parametric(cls, family: str, **parameters: float) -> "MagnitudePrior":
        for name, value in parameters.items():
            parameters[name] = _positive(f"prior {family}", name, value)
        table = distribution(family, **parameters).ppf(LEVELS)
        return cls(table, {"kind": family, "parameters": parameters})

    @classmethod
    def from_table(
        cls, table: Any, provenance: dict[str, Any] | None = None
    ) -> "MagnitudePrior":
        """Take a table (1001,) of lengths at ``LEVELS``, metres, as it is."""
        return cls(table, {"kind": "table", **(provenance or {})})

    @classmethod
    def empirical(
        cls, lengths: Any, provenance: dict[str, Any] | None = None
    ) -> "MagnitudePrior":
        """Use the quantiles of a sample of lengths (M,), metres."""
        lengths = _check_lengths(lengths)
        return cls(
            np.quantile(lengths, LEVELS),
            {"kind": "empirical", "count": len(lengths), **(provenance or {})},
        )

    @classmethod
    def fit(
        cls,
        lengths: Any,
        family: str = "empirical",
        provenance: dict[str, Any] | None = None,
    ) -> "MagnitudePrior":
        """Fit a family to a sample of lengths (M,), metres, by maximum likelihood."""
        _check_name("prior: family", family, FAMILIES)
        if family == "empirical":
            return cls.empirical(lengths, provenance)
        lengths = _check_lengths(lengths)
        prior = cls._parametric(family, **fit_parameters(lengths, family))
        prior.provenance.update({"count": len(lengths), **(provenance or {})})
        return prior

    @classmethod
    def from_labels(
        cls,
        scenes: Iterable[tuple[np.ndarray, np.ndarray]],
        family: str = "empirical",
        min_points: int = 10,
        provenance: dict[str, Any] | None = None,
    ) -> "MagnitudePrior":
        """Fit the labelled instances of scenes.

        Args:
            scenes: pairs of coord (N, 3), metres, and instance (N,), negative where
                a point belongs to none.
            family: one of ``FAMILIES``.
            min_points: smaller instances take no part.
            provenance: more entries for the prior's own.
        """
        samples = [instance_offsets(*scene, min_points) for scene in scenes]
        lengths = np.linalg.norm(_stack(samples), axis=1)
        return cls.fit(lengths, family, {"data": "labels", **(provenance or {})})

    @classmethod
    def label_free(
        cls,
        clouds: Iterable[np.ndarray],
        remove_planes: Callable[[np.ndarray], np.ndarray] | None = None,
        family: str = "empirical",
        provenance: dict[str, Any] | None = None,
        **options: Any,
    ) -> "MagnitudePrior":
        """Fit clouds without labels; arguments as in ``label_free_offsets``."""
        offsets = label_free_offsets(clouds, remove_planes, **options)
        lengths = np.linalg.norm(offsets, axis=1)
        return cls.fit(lengths, family, {"data": "hdbscan", **(provenance or {})})

    @property
    def median(self) -> float:
        """The median length, metres."""
        return float(self.table[NUM_KNOTS // 2])

    @property
    def mean(self) -> float:
        """The mean length, metres, the clipped tails counted at the end knots."""
        inner = np.sum(np.diff(LEVELS) * (self.table[1:] + self.table[:-1]) / 2)
        return float(inner + LEVELS[0] * (self.table[0] + self.table[-1]))

    def quantile(self, u: Any) -> Any:
        """Return lengths at levels ``u`` in [0, 1]: a tensor's tensor, else float64."""
        if isinstance(u, Tensor):
            dtype = u.dtype if u.dtype.is_floating_point else torch.float32
            return interpolate_quantile(self.to_tensor(u.device), u).to(dtype)
        return np.interp(u, LEVELS, self.table)

    def cdf(self, x: Any) -> Any:
        """Return the share of lengths up to ``x``; 0 and 1 outside the table."""
        if isinstance(x, Tensor):
            dtype = x.dtype if x.dtype.is_floating_point else torch.float32
            found = self.cdf(x.detach().cpu().double().numpy())
            return torch.as_tensor(found, dtype=dtype, device=x.device)
        x = np.asarray(x, dtype=np.float64)
        # The last knot not above x: among equal knots the share jumps to the upper.
        index = np.searchsorted(self.table, x, side="right") - 1
        inside = np.clip(index, 0, NUM_KNOTS - 2)
        width = self.table[inside + 1] - self.table[inside]
        weight = (x - self.table[inside]) / np.where(width > 0, width, 1.0)
        level = LEVELS[inside] + weight * (LEVELS[inside + 1] - LEVELS[inside])
        level = np.where(index < 0, 0.0, level)
        return np.where(index >= NUM_KNOTS - 1, 1.0, level)

    def scaled(self, factor: float) -> "MagnitudePrior":
        """Return the prior of lengths ``factor`` times as long."""
        factor = _positive("prior", "factor", factor)
        scale = self.provenance.get("scaled", 1.0) * factor
        return MagnitudePrior(self.table * factor, {**self.provenance, "scaled": scale})

    def to_tensor(self, device: Any = None) -> Tensor:
        """Return the table (1001,) as float64."""
        return torch.tensor(self.table, dtype=torch.float64, device=device)

    def to_dict(self) -> dict[str, Any]:
        """Return the table and its provenance as JSON values."""
        return {"table": self.table.tolist(), "provenance": self.provenance}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "MagnitudePrior":
        """Rebuild what ``to_dict`` returned, value by value.

        Raises:
            UserError: no table.
        """
        if not isinstance(data, dict) or "table" not in data:
            raise UserError("prior: no table in it; write one by pointins fit-prior")
        return cls(data["table"], data.get("provenance"))

    def save(self, path: str | Path, direction: "DirectionPrior | None" = None) -> None:
        """Write JSON, whole or not at all, with a direction prior beside it if given.

        Raises:
            UserError: the file cannot be written.
        """
        data = self.to_dict()
        if direction is not None:
            data["direction"] = direction.to_dict()
        write_text(path, json.dumps(data) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "MagnitudePrior":
        """Read what ``save`` wrote.

        Raises:
            UserError: missing or damaged file.
        """
        return _named(path, lambda: cls.from_dict(_read_json(path)))

    def __repr__(self) -> str:
        kind = self.provenance.get("kind", "table")
        return f"MagnitudePrior({kind}, median={self.median:.4g} m)"


class PriorBuffer(nn.Module):
    """A magnitude prior as the buffer ``magnitude_prior`` of a model.

    The buffer travels in the checkpoint, so a resumed or a loaded model keeps the
    prior it was trained with, whatever the config says.

    Args:
        prior: the prior; its table is kept in float32.
    """

    def __init__(self, prior: MagnitudePrior):
        super().__init__()
        self.register_buffer("magnitude_prior", prior.to_tensor().float())
        self._median = prior.median

    @property
    def median(self) -> float:
        """The median length, metres."""
        return self._median

    def quantile(self, u: Tensor) -> Tensor:
        """Return lengths (...) in metres, float32, at levels ``u`` (...) in [0, 1]."""
        return interpolate_quantile(self.magnitude_prior, u)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        # Kept as a number: reading it from a GPU every step would wait for the GPU.
        self._median = float(self.magnitude_prior[NUM_KNOTS // 2])

    def extra_repr(self) -> str:
        """Show the median when a model is printed."""
        return f"median={self.median:.4g} m"


class DirectionPrior(nn.Module):
    """Distribution of offset directions, one quantile function per axis.

    Indoors directions pooled over scenes are near uniform; outdoors, and for walls
    and floors, they are flat, and a uniform target is wrong.

    Args:
        kind: ``"uniform_sphere"`` (each axis uniform on [-1, 1], by Archimedes),
            ``"empirical"`` (tables) or ``"none"`` (directions are left alone).
        table: (3, 1001) coordinates of unit vectors at ``LEVELS``, for
            ``"empirical"``; kept as the buffer ``direction_prior``.

    Raises:
        UserError: unknown kind, or a table that is no table.
    """

    KINDS = ("uniform_sphere", "empirical", "none")

    def __init__(self, kind: str = "uniform_sphere", table: Any = None):
        super().__init__()
        _check_name("direction prior: type", kind, self.KINDS)
        if (table is not None) != (kind == "empirical"):
            raise UserError(
                f"direction prior {kind}: a table goes with the type 'empirical', "
                "and with no other"
            )
        self.kind = kind
        if kind == "empirical":
            table = torch.tensor(_check_direction_table(table)).float()
            self.register_buffer("direction_prior", table)

    @classmethod
    def empirical(cls, offsets: Any) -> "DirectionPrior":
        """Use the directions of a sample of offsets (M, 3); zero vectors have none."""
        offsets = np.asarray(offsets, dtype=np.float64)
        if offsets.ndim != 2 or offsets.shape[1] != 3:
            raise UserError(
                f"direction prior: offsets must be (M, 3), found {offsets.shape}"
            )
        length = np.linalg.norm(offsets, axis=1, keepdims=True)
        keep = (length[:, 0] > 0) & np.isfinite(length[:, 0])
        if not keep.any():
            raise UserError("direction prior: no offset of non-zero, finite length")
        return cls("empirical", np.quantile(offsets[keep] / length[keep], LEVELS, 0).T)

    def quantile(self, axis: int, u: Tensor) -> Tensor:
        """Return the coordinate along ``axis`` (0, 1, 2) at levels ``u`` in [0, 1].

        Raises:
            ValueError: the kind is ``"none"``, which has no quantiles.
        """
        if self.kind == "none":
            raise ValueError("DirectionPrior('none') has no quantiles")
        if self.kind == "uniform_sphere":
            return 2 * u.clamp(0, 1) - 1
        return interpolate_quantile(self.direction_prior[axis], u)

    def to_dict(self) -> dict[str, Any]:
        """Return kind and table as JSON values."""
        if self.kind != "empirical":
            return {"kind": self.kind}
        return {"kind": self.kind, "table": self.direction_prior.tolist()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "DirectionPrior":
        """Rebuild what ``to_dict`` returned."""
        if not isinstance(data, dict) or "kind" not in data:
            raise UserError("direction prior: no kind in it")
        return cls(data["kind"], data.get("table"))

    @classmethod
    def load(cls, path: str | Path) -> "DirectionPrior":
        """Read the directions that ``MagnitudePrior.save`` wrote beside the lengths.

        Raises:
            UserError: missing or damaged file, or no directions in it.
        """

        def read():
            data = _read_json(path)
            if not isinstance(data, dict) or "direction" not in data:
                raise UserError(
                    "prior: no directions in it; write them by pointins fit-prior"
                )
            return cls.from_dict(data["direction"])

        return _named(path, read)

    def extra_repr(self) -> str:
        """Show the kind when a model is printed."""
        return self.kind


def build_prior(cfg: Any) -> MagnitudePrior:
    """Build a magnitude prior from its config.

    Args:
        cfg: a ``MagnitudePrior``, the path of a file that ``pointins fit-prior`` wrote,
            or a dict with ``type`` and its parameters: ``log_normal`` (median, sigma),
            ``gamma`` (shape, scale), ``weibull`` (shape, scale), ``empirical``
            (lengths), ``table`` (table) or ``file`` (path). ``factor`` beside them
            multiplies the lengths.

    Raises:
        UserError: unknown type or parameter, a missing one, or a bad number.
    """
    if isinstance(cfg, MagnitudePrior):
        return cfg
    if isinstance(cfg, str):
        cfg = {"type": "file", "path": cfg}
    builders = {
        "log_normal": (MagnitudePrior.log_normal, ("median", "sigma")),
        "gamma": (MagnitudePrior.gamma, ("shape", "scale")),
        "weibull": (MagnitudePrior.weibull, ("shape", "scale")),
        "empirical": (MagnitudePrior.empirical, ("lengths",)),
        "table": (MagnitudePrior.from_table, ("table",)),
        "file": (MagnitudePrior.load, ("path",)),
    }
    factor = None
    if isinstance(cfg, dict) and "factor" in cfg:
        factor = cfg["factor"]
        cfg = {key: value for key, value in cfg.items() if key != "factor"}
    prior = _build("prior", cfg, builders)
    return prior if factor is None else prior.scaled(factor)


def build_direction_prior(cfg: Any) -> DirectionPrior:
    """Build a direction prior from its config.

    Args:
        cfg: a ``DirectionPrior``, or a dict with ``type`` and its parameters:
            ``uniform_sphere``, ``none``, ``empirical`` (offsets), ``table`` (table)
            or ``file`` (path, as written by ``pointins fit-prior``); the first two
            also as a plain string.

    Raises:
        UserError: unknown type or parameter, or a missing one.
    """
    if isinstance(cfg, DirectionPrior):
        return cfg
    if isinstance(cfg, str):
        cfg = {"type": cfg}
    builders = {
        "uniform_sphere": (lambda: DirectionPrior("uniform_sphere"), ()),
        "none": (lambda: DirectionPrior("none"), ()),
        "empirical": (DirectionPrior.empirical, ("offsets",)),
        "table": (lambda table: DirectionPrior("empirical", table), ("table",)),
        "file": (DirectionPrior.load, ("path",)),
    }
    return _build("direction prior", cfg, builders)


def distribution(family: str, **parameters: float) -> Any:
    """Return scipy's frozen distribution of a parametric family."""
    # Imported here: scipy.stats takes longer to import than all of this package.
    from scipy import stats

    if family == "log_normal":
        return stats.lognorm(parameters["sigma"], scale=parameters["median"])
    if family == "gamma":
        return stats.gamma(parameters["shape"], scale=parameters["scale"])
    return stats.weibull_min(parameters["shape"], scale=parameters["scale"])


def fit_parameters(lengths: np.ndarray, family: str) -> dict[str, float]:
    """Fit a parametric family to positive lengths (M,) by maximum likelihood.

    Raises:
        UserError: all lengths are equal, so that no family fits.
    """
    from scipy import stats

    lengths = thin(np.asarray(lengths, dtype=np.float64))
    if lengths[0] == lengths[-1]:
        raise UserError(
            f"prior: cannot fit {family}, every length is {lengths[0]:.4g} m; "
            "use the family 'empirical'"
        )
    if family == "log_normal":
        logs = np.log(lengths)
        return {"median": float(np.exp(logs.mean())), "sigma": float(logs.std())}
    kind = stats.gamma if family == "gamma" else stats.weibull_min
    shape, _, scale = kind.fit(lengths, floc=0)
    return {"shape": float(shape), "scale": float(scale)}


def ks_distance(lengths: np.ndarray, prior: MagnitudePrior) -> float:
    """Return the Kolmogorov-Smirnov distance of lengths (M,) to a prior."""
    ordered = np.sort(np.asarray(lengths, dtype=np.float64))
    level = prior.cdf(ordered)
    steps = np.arange(len(ordered) + 1) / len(ordered)
    return float(max((level - steps[:-1]).max(), (steps[1:] - level).max()))


def thin(lengths: np.ndarray, limit: int = MAX_FIT_SAMPLES) -> np.ndarray:
    """Return lengths sorted, with at most ``limit`` of them, evenly spaced by rank."""
    ordered = np.sort(lengths)
    if len(ordered) <= limit:
        return ordered
    return ordered[np.linspace(0, len(ordered) - 1, limit).astype(np.int64)]


def instance_offsets(
    coord: np.ndarray, instance: np.ndarray, min_points: int = 10
) -> np.ndarray:
    """Return the vectors from points to the mean of their instance.

    Args:
        coord: (N, 3) metres.
        instance: (N,) integers, negative where a point belongs to none.
        min_points: smaller instances take no part.

    Returns:
        (M, 3) float64, metres, for the points that take part, in their order.
    """
    coord = np.asarray(coord, dtype=np.float64)
    instance = np.asarray(instance).reshape(-1)
    if len(instance) != len(coord):
        raise UserError(
            f"prior: {len(coord)} points but {len(instance)} instance labels"
        )
    coord = coord[instance >= 0]
    _, inverse, count = np.unique(
        instance[instance >= 0], return_inverse=True, return_counts=True
    )
    centre = np.empty((len(count), 3))
    for axis in range(3):
        centre[:, axis] = np.bincount(inverse, coord[:, axis], len(count)) / count
    keep = count[inverse] >= min_points
    return (centre[inverse] - coord)[keep]


def label_free_offsets(
    clouds: Iterable[np.ndarray],
    remove_planes: Callable[[np.ndarray], np.ndarray] | None = None,
    min_cluster_size: int = 60,
    max_points: int = 20_000,
    drop_longer: float = 3.0,
    generator: np.random.Generator | None = None,
) -> np.ndarray:
    """Return point-to-centre vectors of the clusters found in unlabelled clouds.

    HDBSCAN groups what is left of every cloud once its dominant planes are gone;
    with the planes in, everything that touches the floor is one cluster, and lengths
    come out 2 to 3 times too long. Clusters whose median length exceeds
    ``drop_longer`` times the median over clusters (all clouds) are furniture groups
    and remains of walls: they are dropped.

    Args:
        clouds: arrays (N, 3), metres.
        remove_planes: coord (N, 3) -> (N,) bool, true where a point is on a plane.
        min_cluster_size: of HDBSCAN, in points of the thinned cloud.
        max_points: a larger cloud is thinned at random to this many points.
        drop_longer: see above.
        generator: draws the thinning; seed 0 when None.

    Returns:
        (M, 3) float64, metres.

    Raises:
        UserError: scikit-learn is missing, or nothing is found.

    Source: PointINS, label-free prior; plane removal and the cut are ours.
    """
    try:
        from sklearn.cluster import HDBSCAN
    except ImportError:
        raise UserError(
            'a label-free prior needs scikit-learn >= 1.3: pip install "pointins[demo]"'
        ) from None
    generator = generator or np.random.default_rng(0)
    samples, medians, sizes = [], [], []
    for coord in clouds:
        coord = np.asarray(coord, dtype=np.float64)
        coord = coord[np.isfinite(coord).all(axis=1)]
        if len(coord) > max_points:
            chosen = generator.choice(len(coord), max_points, replace=False)
            coord = coord[np.sort(chosen)]
        if remove_planes is not None and len(coord):
            coord = coord[~np.asarray(remove_planes(coord), dtype=bool)]
        if len(coord) < min_cluster_size:
            continue
        label = HDBSCAN(min_cluster_size=min_cluster_size, copy=True).fit_predict(coord)
        order = np.argsort(label, kind="stable")[np.count_nonzero(label < 0) :]
        if not len(order):
            continue
        offsets = instance_offsets(coord[order], label[order], min_points=1)
        starts = np.flatnonzero(np.diff(label[order], prepend=-1))
        for cluster in np.split(offsets, starts[1:]):
            samples.append(cluster)
            medians.append(np.median(np.linalg.norm(cluster, axis=1)))
            sizes.append(len(cluster))
    if not samples:
        raise UserError(
            "label-free prior: no cluster found; check that the clouds hold objects "
            "off the dominant planes, or lower the minimum cluster size"
        )
    limit = drop_longer * np.median(medians)
    kept = [s for s, m in zip(samples, medians, strict=True) if m <= limit]
    return np.concatenate(kept)


def _build(what: str, cfg: Any, builders: dict[str, tuple[Callable, tuple]]) -> Any:
    if not isinstance(cfg, dict) or "type" not in cfg:
        raise UserError(
            f"config: {what} must be a dict with a type, one of "
            f"{', '.join(builders)}; found {cfg!r}"
        )
    _check_name(f"config: {what} type", cfg["type"], tuple(builders))
    build, expected = builders[cfg["type"]]
    options = {key: value for key, value in cfg.items() if key != "type"}
    for name in options:
        _check_name(f"config: {what} {cfg['type']} option", name, expected)
    missing = [name for name in expected if name not in options]
    if missing:
        raise UserError(f"config: {what} {cfg['type']} needs {', '.join(missing)}")
    return build(**options)


def _check_name(what: str, name: Any, choices: tuple[str, ...]) -> None:
    if name in choices:
        return
    close = difflib.get_close_matches(str(name), choices, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    allowed = ", ".join(choices) or "none"
    raise UserError(f"{what}: {name!r} is unknown{hint}; known: {allowed}")


def _positive(what: str, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise UserError(f"{what}: {name} must be a number, found {value!r}")
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"{what}: {name} must be positive and finite, found {value!r}")
    return float(value)


def _as_floats(what: str, values: Any) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{what}: numbers expected, found {values!r:.60}") from None


def _check_table(table: Any) -> np.ndarray:
    table = _as_floats("prior: table", table)
    if table.shape != (NUM_KNOTS,):
        raise UserError(
            f"prior: a table has {NUM_KNOTS} lengths, found shape {table.shape}"
        )
    if not np.isfinite(table).all() or table[0] < 0 or (np.diff(table) < 0).any():
        raise UserError(
            "prior: a table must hold finite lengths, not negative, in ascending order"
        )
    if table[NUM_KNOTS // 2] <= 0:
        raise UserError(
            "prior: the median length is 0; the median is the unit of offsets"
        )
    return table


def _check_direction_table(table: Any) -> np.ndarray:
    table = _as_floats("direction prior: table", table)
    if table.shape != (3, NUM_KNOTS):
        raise UserError(
            f"direction prior: a table is (3, {NUM_KNOTS}), found {table.shape}"
        )
    if not (np.abs(table) <= 1 + 1e-6).all() or (np.diff(table) < 0).any():
        raise UserError(
            "direction prior: a table must hold values in [-1, 1], in ascending order"
        )
    return table


def _check_lengths(lengths: Any) -> np.ndarray:
    lengths = _as_floats("prior: lengths", lengths).reshape(-1)
    if not np.isfinite(lengths).all() or (lengths < 0).any():
        raise UserError("prior: lengths must be finite and not negative")
    # A zero is an instance of one point, or a point on its centre: no length.
    lengths = lengths[lengths > 0]
    if not len(lengths):
        raise UserError("prior: no length above zero; are there instances in the data?")
    return lengths


def _stack(samples: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(samples) if samples else np.empty((0, 3))


def _named(path: str | Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _read_json(path: str | Path) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            "no such prior; write one by pointins fit-prior DATA_ROOT --out FILE"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"cannot be read as a prior ({error})") from None
