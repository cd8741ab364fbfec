"""Our kernels for spconv on CPU beside spconv's own, on one thread."""

import pytest
import torch

spconv = pytest.importorskip("spconv.pytorch")

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="needs a machine without CUDA"
)


def cloud(repeated):
    """Eighty cells of a box, and the first of them again."""
    cells = torch.randperm(216)[:80]
    cells = torch.cat([cells, cells[:repeated]])
    grid = torch.stack([cells * 0, cells // 36, cells // 6 % 6, cells % 6], dim=1)
    return torch.randn(len(cells), 4), grid.int()


@pytest.mark.parametrize("repeated", [0, 20])
@pytest.mark.parametrize(
    "layer",
    [
        lambda: spconv.SubMConv3d(4, 5, 3, bias=True, indice_key="a"),
        lambda: spconv.SparseConv3d(4, 5, 2, stride=2, bias=True, indice_key="a"),
    ],
    ids=["submanifold", "strided"],
)
def test_same_features(layer, repeated, monkeypatch):
    """To the last digits, also where points share a cell, which spconv leaves open."""
    ops = spconv.ops
    torch.manual_seed(0)
    features, cells = cloud(repeated)
    convolution = layer()
    found = []
    for kernel in (ops.indice_conv, ops.indice_conv.__wrapped__):
        monkeypatch.setattr(ops, "indice_conv", kernel)
        tensor = spconv.SparseConvTensor(features, cells, [6, 6, 6], 1)
        with torch.no_grad():
            found.append(convolution.train()(tensor).features)
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)
