"""What a study runs: rows, data sets, seeds and sizes, as `configs/study` has them."""

import json
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any

from pointins_plugin.errors import UserError
from pointins_plugin.host import Config, plain_values
from pointins_plugin.paths import config_root

PRETRAINING, LINEAR = "pretraining", "linear"
TRAINED_HEADS = INSTANCES, SEMANTICS = "instances", "semantics"  # backbone frozen
FINETUNING = {"finetuning10": 0.1, "finetuning100": 1.0}  # share of labelled scenes
STAGES = (PRETRAINING, LINEAR, *TRAINED_HEADS, *FINETUNING)
LADDER, ABLATIONS = "ladder", "ablations"
PARTS = (LADDER, ABLATIONS)
BASELINE = "dos"  # what rows are compared with
WHOLE = "pointins-spatial"  # what ablations change
GEOMETRY = "geometry"  # names results of baselines that see coordinates alone
EVALUATOR = "LabelFreeInstanceEvaluator"
SPARSE = "spunet"  # names configs of the other backbone
# Helper values of configs that are read through `model` alone. Left in, a preset that
# changes would change baselines that only carry it.
_PRESETS = ("spatial_", "paper_")


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        name: as users type it.
        part: ``"ladder"`` or ``"ablations"``.
        title: as the table shows it.
        config: of pre-training is DATA-pretrain-CONFIG ("" for no suffix); None for
            random weights.
        change: overrides of that config, dictionaries being merged.
        replace: dictionaries that take the place of the config's.
        empirical_prior: the prior is the lengths of the training scenes' labels.
        beside: the row that differences are taken to.
    """

    name: str
    part: str
    title: str
    config: str | None
    change: dict[str, Any] = field(default_factory=dict, hash=False)
    replace: dict[str, Any] = field(default_factory=dict, hash=False)
    empirical_prior: bool = False
    beside: str = BASELINE

    @property
    def sparse(self) -> bool:
        """Whether the backbone is the sparse U-Net."""
        return self.config is not None and SPARSE in self.config.split("-")


@dataclass(frozen=True)
class Unit:
    """A row on a data set with a seed: pre-training and all its probes.

    Attributes:
        data: set of the study.
        row: of the ladder or the ablations.
        seed: of all its runs.
        trained: whether, in a row of the ladder, heads are trained and the whole is
            fine-tuned as well.
    """

    data: str
    row: Row
    seed: int
    trained: bool = True

    @property
    def name(self) -> str:
        """Name of its result's file."""
        return f"{self.data}-{self.row.name}-seed{self.seed}"

    def stages(self) -> list[str]:
        """Return what it consists of, in order."""
        trained = self.trained and self.row.part == LADDER
        stages = list(STAGES if trained else STAGES[:2])
        return stages if self.row.config is not None else stages[1:]


@dataclass(frozen=True)
class Ladder:
    """The contents of a study's file.

    Attributes:
        rows: all rows, by name.
        values: the file's plain values.
    """

    rows: dict[str, Row]
    values: dict[str, Any]

    @classmethod
    def read(cls, path: Path | None = None) -> "Ladder":
        """Read a study's file, by default that of `configs/study`.

        Raises:
            UserError: a row is beside one that is not there.
        """
        path = path or config_root() / "study" / "ladder.py"
        cfg = Config.fromfile(path)
        values = {key: plain_values(cfg[key]) for key in cfg}
        rows = {
            name: Row(name, part, **row)
            for part in PARTS
            for name, row in values[part]["rows"].items()
        }
        for row in rows.values():
            if row.beside not in rows:
                raise UserError(
                    f"{path}: row {row.name!r} is beside {row.beside!r}, which is "
                    "no row; name one of the ladder or the ablations"
                )
        return cls(rows, values)

    def units(
        self,
        parts: Sequence[str] = PARTS,
        data: Sequence[str] | None = None,
        rows: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
        tuned_seeds: Sequence[int] | None = None,
    ) -> list[Unit]:
        """Return what there is to run, a seed after the other.

        Rows that are named run on all data sets that are named, whatever their part.

        Args:
            parts: of the rows.
            data: names of data sets; those of the parts when None.
            rows: names; all when None.
            seeds: those of the parts when None.
            tuned_seeds: with which the whole is fine-tuned; the study's when None.

        Raises:
            UserError: a name that the study has not.
        """
        _check("data", data or (), self.values["data"])
        _check("rows", rows or (), self.rows)
        if tuned_seeds is None:
            tuned_seeds = self.values["seeds"]["trained"]
        found = []
        for part in parts:
            own = self.values[part]
            for seed in seeds or self.values["seeds"][part]:
                for name in data if rows and data else own["data"]:
                    if data and name not in data:
                        continue
                    chosen = [row for row in rows or own["rows"] if row in own["rows"]]
                    trained = seed in tuned_seeds
                    found += [
                        Unit(name, self.rows[row], seed, trained) for row in chosen
                    ]
        return found

    def config(
        self, unit: Unit, stage: str, size: str, baselines: bool = False
    ) -> Config:
        """Return the config of a training run, or of the linear probe.

        Args:
            unit: a row on a data set with a seed.
            stage: of it.
            size: of the study.
            baselines: leave in the evaluator what it asks for of geometry alone,
                which does not hang on a row and is measured apart.

        Raises:
            UserError: there is none for this row and data set.
        """
        cfg = Config.fromfile(self._base(unit, stage))
        for key in [key for key in cfg if key.startswith(_PRESETS)]:
            cfg.pop(key)
        pretrains = stage == PRETRAINING
        of_size = self.values["sizes"][size][unit.data]
        own = "tuning" if stage in FINETUNING else stage
        change = {
            **self.values["pretraining" if pretrains else "probing"],
            **of_size["shared"],
            **of_size.get(own, {}),
            **self._network(unit, stage, size),
            "seed": unit.seed,
        }
        if pretrains:
            if not baselines:
                change[f"hooks.{EVALUATOR}.baselines"] = []
                change[f"hooks.{EVALUATOR}.baseline_radius"] = None
            change.update(unit.row.change)
            replaced = dict(unit.row.replace)
            if unit.row.empirical_prior:
                replaced["model.offset_branch.prior"] = _labelled_prior(cfg.filename)
            for key, value in replaced.items():
                change[key] = {"_delete_": True, **value}
        elif unit.row.config is None and stage not in FINETUNING:
            change["hooks.PretrainedLoader.required"] = False
        share = FINETUNING.get(stage, 1.0)
        if share < 1:
            # As many steps as with all labels.
            change["epoch"] = change.get("epoch", cfg.epoch) * round(1 / share)
            few = {"type": "LabelEfficientDataset", "base": cfg.data.train.type}
            for key, value in {**few, "scenes": share}.items():
                change[f"data.train.{key}"] = value
        cfg.merge_from_dict(_indexed(change, cfg.hooks))
        if not pretrains:
            cfg.hooks = [*cfg.hooks, *self.values["probing_hooks"]]
        return cfg

    def _network(self, unit: Unit, stage: str, size: str) -> dict[str, Any]:
        """Return what a size changes in the network of a unit's stage."""
        networks = self.values["networks"].get(size, {})
        network = networks.get(SPARSE if unit.row.sparse else "ptv3", {})
        own = stage if stage == PRETRAINING else "frozen"
        if stage in FINETUNING:
            own = "tuning"
        return {**network.get("shared", {}), **network.get(own, {})}

    def _base(self, unit: Unit, stage: str) -> Path:
        suffix = f"-{SPARSE}" if unit.row.sparse else ""
        task = "semseg"
        if stage == PRETRAINING:
            suffix = f"-{unit.row.config}" if unit.row.config else ""
            name = f"{unit.data}-pretrain{suffix}"
        else:
            if stage != SEMANTICS:
                task = self.values["data"][unit.data]["instances"]
            probe = "lin"
            if stage in FINETUNING:
                probe = "scratch" if unit.row.config is None else "ft"
            name = f"{unit.data}-{task}-{probe}{suffix}"
        path = config_root() / "pointins" / f"{name}.py"
        if not path.is_file():
            raise UserError(
                f"study: row {unit.row.name} needs pointins/{name}, which does not "
                f"exist; leave {unit.data} out for it"
            )
        return path


def _check(option: str, given: Sequence[str], known: Any) -> None:
    for name in given:
        if name not in known:
            close = get_close_matches(name, list(known), n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise UserError(
                f"--{option}: the study has no {name!r}{hint}; it has "
                f"{', '.join(known)}"
            )


def _indexed(change: dict[str, Any], hooks: Sequence[Any]) -> dict[str, Any]:
    """Return changes with hooks by their place; those of absent hooks are left out."""
    places = {hook["type"]: index for index, hook in enumerate(hooks)}
    indexed = {}
    for key, value in change.items():
        first, _, rest = key.partition(".")
        if first == "hooks":
            kind, _, option = rest.partition(".")
            if kind not in places:
                continue
            key = f"hooks.{places[kind]}.{option}"
        indexed[key] = value
    return indexed


@lru_cache
def _labelled_prior(config: str) -> dict[str, Any]:
    """Return the prior of the lengths in a config's training scenes, as a table."""
    from pointins_plugin.commands import fit_prior

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prior.json"
        words = ["--config", config, "--source", "labels", "--out", str(file)]
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            fit_prior.run(words)
        table = json.loads(file.read_text(encoding="utf-8"))
    return {"type": "table", "table": _table(table)}


def _table(written: dict[str, Any]) -> list[float]:
    from pointins_plugin.priors import MagnitudePrior

    return [round(x, 6) for x in MagnitudePrior.from_dict(written).to_tensor().tolist()]
