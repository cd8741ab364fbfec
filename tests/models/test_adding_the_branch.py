"""The examples of docs/adding-the-branch.md: each trains, here for a step or two."""

import re
from pathlib import Path

import pytest
import torch

from pointins_plugin.host import (
    HOST,
    TRAINERS,
    Config,
    build_dataset,
    build_model,
    collate_fn,
    default_config_parser,
    default_setup,
)
from pointins_plugin.models.point_ins import _view_affine

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = sorted((DOCS / "examples").glob("*-rooms*.py"))


@pytest.mark.skipif(HOST != "standalone", reason="runs the standalone trainer")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_trains(path, tmp_path):
    options = {
        "save_path": str(tmp_path),
        "data.train.num_scenes": 2,
        "num_worker": 0,
        "epoch": 1,
        "eval_epoch": 1,
        "evaluate": False,
        "seed": 1,
    }
    cfg = default_config_parser(str(path), options)
    cfg.hooks = [hook for hook in cfg.hooks if "Evaluator" not in hook["type"]]
    cfg = default_setup(cfg)
    trainer = TRAINERS.build(dict(type=cfg.train.type, cfg=cfg))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    after = trainer.model.state_dict()
    assert all(torch.isfinite(value).all() for value in after.values())
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert any("backbone" in name for name in moved)
    if path.stem.startswith("sonata"):  # it has a teacher, and no hook averages it
        assert "teacher.mask_head.mlp.0.weight" in moved


def test_matrices_are_recovered_from_the_pipeline_of_others():
    """Their transforms track nothing: the map is fitted to coordinates."""
    cfg = Config.fromfile(DOCS / "examples" / "sonata-rooms-with-branch.py")
    cfg.data.train.num_scenes = 1
    data = collate_fn([build_dataset(cfg.data.train)[0]])
    assert "global_affine" not in data
    net = build_model(cfg.model).train()
    net.set_progress(0.5)
    views = net._views(data, "global", 0.08)
    affine = _view_affine(data, views)
    start = 0
    for matrix, end in zip(affine, data["global_offset"].tolist(), strict=True):
        origin = data["global_origin_coord"][start:end].double()
        moved = origin @ matrix[:3, :3].t() + matrix[:3, 3]
        error = (moved - data["global_coord"][start:end]).norm(dim=1)
        # what is left is jitter and elastic distortion
        assert error.mean() < 0.25
        scale = torch.linalg.svdvals(matrix[:3, :3])
        assert ((scale > 0.85) & (scale < 1.15)).all()
        start = end
    output = net(data)
    assert torch.isfinite(output["offset_loss"])


def test_page_names_files_that_are_there():
    page = (DOCS / "adding-the-branch.md").read_text(encoding="utf-8")
    named = set(re.findall(r"docs/examples/[\w.-]+\.py", page))
    assert named == {f"docs/examples/{path.name}" for path in EXAMPLES}
