"""Command line, configuration and set-up shared by training and testing."""

import argparse
import multiprocessing
import os
from typing import Any

import torch

from pointins_plugin.errors import UserError

from . import comm
from .config import Config, DictAction
from .env import derive_seed, get_random_seed, set_seed

# Keys that the trainer reads; configs inherit them from _base_/default_runtime.py.
REQUIRED_KEYS = (
    "save_path",
    "model",
    "data",
    "optimizer",
    "scheduler",
    "hooks",
    "train",
    "epoch",
    "eval_epoch",
    "batch_size",
    "num_worker",
    "gradient_accumulation_steps",
    "clip_grad",
    "seed",
    "weight",
    "resume",
    "evaluate",
    "sync_bn",
    "enable_amp",
    "amp_dtype",
    "empty_cache",
    "empty_cache_per_epoch",
    "find_unused_parameters",
    "mix_prob",
)
POSITIVE_KEYS = ("epoch", "eval_epoch", "batch_size", "gradient_accumulation_steps")


def default_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of ``tools/train.py``: its flags and their meaning."""
    parser = argparse.ArgumentParser(epilog=epilog)
    parser.add_argument("--config-file", default="", metavar="FILE", help="config file")
    parser.add_argument(
        "--num-gpus", type=int, default=1, help="processes a machine (GPUs, or CPU)"
    )
    parser.add_argument("--num-machines", type=int, default=1, help="machines in all")
    parser.add_argument("--machine-rank", type=int, default=0, help="this machine")
    parser.add_argument(
        "--dist-url", default="auto", help="address of the process group"
    )
    parser.add_argument(
        "--options", nargs="+", action=DictAction, metavar="KEY=VALUE", help="overrides"
    )
    return parser


def default_config_parser(file_path: str, options: dict | None) -> Config:
    """Read a config, apply overrides, draw a seed if there is none, make the folder.

    Raises:
        UserError: a key is missing or makes no sense, or ``save_path`` cannot be
            made.
    """
    cfg = Config.fromfile(file_path)
    cfg.merge_from_dict(options or {})
    lacking = [key for key in REQUIRED_KEYS if key not in cfg]
    if lacking:
        raise UserError(
            f"config {file_path}: it has no {', '.join(lacking)}; inherit "
            "configs/pointins/_base_/default_runtime.py by _base_"
        )
    if cfg.seed is None:
        cfg.seed = get_random_seed()
    for key in POSITIVE_KEYS:
        if not isinstance(cfg[key], int) or cfg[key] < 1:
            raise UserError(f"config: {key}={cfg[key]!r} is no positive integer")
    if not (cfg.clip_grad is None or _is_positive(cfg.clip_grad)):
        raise UserError(
            f"config: clip_grad={cfg.clip_grad!r} is neither None nor a number above 0"
        )
    if not isinstance(cfg.seed, int) or cfg.seed < 0:
        raise UserError(
            f"config: seed={cfg.seed!r} is neither None nor an integer >= 0"
        )
    if not isinstance(cfg.data, dict) or not isinstance(cfg.data.get("train"), dict):
        raise UserError(f"config {file_path}: it has no data.train")
    if cfg.epoch % cfg.eval_epoch:
        raise UserError(
            f"config: epoch={cfg.epoch} is not a multiple of eval_epoch="
            f"{cfg.eval_epoch}; an epoch of the trainer is epoch / eval_epoch passes"
        )
    cfg.data.train.loop = cfg.epoch // cfg.eval_epoch
    try:
        os.makedirs(os.path.join(cfg.save_path, "model"), exist_ok=True)
    except OSError as error:
        raise _not_written(cfg, error) from None
    return cfg


def _is_positive(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and value > 0


def _not_written(cfg: Config, error: OSError) -> UserError:
    return UserError(f"save_path {cfg.save_path} cannot be written: {error.strerror}")


def default_setup(cfg: Config) -> Config:
    """Agree on the seed, write ``config.py``, share batch and workers, seed this rank.

    Raises:
        UserError: ``save_path`` cannot be written, or a batch cannot be shared.
    """
    # Every machine, and under torchrun every process, has read the config by itself
    # and drawn a seed where there was none.
    cfg.seed = comm.all_gather(cfg.seed)[0]
    if comm.is_main_process() and not cfg.resume:
        try:
            cfg.dump(os.path.join(cfg.save_path, "config.py"))
        except OSError as error:
            raise _not_written(cfg, error) from None
    world_size = comm.get_world_size()
    if cfg.num_worker is None:
        cfg.num_worker = multiprocessing.cpu_count()
    cfg.num_worker_per_gpu = cfg.num_worker // world_size
    for key in ("batch_size", "batch_size_val", "batch_size_test"):
        total = cfg.get(key)
        if total is not None and total % world_size:
            raise UserError(
                f"config: {key}={total} is shared by {world_size} processes, of which "
                f"it must be a multiple: set {key}="
                f"{-(-total // world_size) * world_size}, or another number of "
                "processes (-g)"
            )
        cfg[f"{key}_per_gpu"] = 1 if total is None else total // world_size
    if cfg.get("num_threads"):
        torch.set_num_threads(cfg.num_threads)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    set_seed(derive_seed(cfg.seed, comm.get_rank()))
    return cfg
