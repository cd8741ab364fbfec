"""Nearest neighbours against all pairs, cloud by cloud."""

import torch

from pointins_plugin.ops.neighbours import knn, nearest


def points(n, seed):
    return torch.rand(n, 3, generator=torch.Generator().manual_seed(seed))


def test_nearest_equals_all_pairs():
    query, reference = points(50, 0), points(80, 1)
    q_offset, r_offset = torch.tensor([20, 50]), torch.tensor([30, 80])
    index, distance = nearest(query, reference, q_offset, r_offset)
    exact = "donot_use_mm_for_euclid_dist"
    full = torch.cdist(query, reference, compute_mode=exact)
    full[:20, 30:] = torch.inf
    full[20:, :30] = torch.inf
    assert torch.equal(index, full.argmin(1))
    torch.testing.assert_close(distance, full.amin(1), atol=1e-6, rtol=1e-5)


def test_nothing_to_find():
    index, distance = nearest(
        points(3, 0), points(2, 1), torch.tensor([1, 3]), torch.tensor([0, 2])
    )
    assert index[0] == -1
    assert distance[0] == torch.inf
    assert (index[1:] >= 0).all()


def test_knn_equals_all_pairs_without_the_point():
    coord, offset = points(70, 2), torch.tensor([40, 70])
    found = knn(coord, 5, offset)
    full = torch.cdist(coord, coord, compute_mode="donot_use_mm_for_euclid_dist")
    full[:40, 40:] = full[40:, :40] = torch.inf
    full.fill_diagonal_(torch.inf)
    assert torch.equal(found, full.topk(5, largest=False).indices)


def test_knn_of_few_points_is_padded():
    coord, offset = points(4, 0), torch.tensor([0, 1, 4])
    found = knn(coord, 3, offset)
    assert found[0].tolist() == [-1, -1, -1]
    assert sorted(found[1].tolist()) == [-1, 2, 3]


def test_duplicates_are_neighbours_but_never_oneself():
    coord = torch.zeros(20, 3)
    found = knn(coord, 6, torch.tensor([20]))
    assert (found >= 0).all()
    assert (found != torch.arange(20)[:, None]).all()
    assert all(len(set(row)) == 6 for row in found.tolist())
