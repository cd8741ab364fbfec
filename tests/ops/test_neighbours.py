"""Nearest neighbours against all pairs, cloud by cloud."""

import torch

from pointins_plugin.ops.neighbours import knn, nearest, pairs_within


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


def test_pairs_within_equal_all_pairs():
    query, reference = points(50, 0), points(80, 1)
    q_offset, r_offset = torch.tensor([20, 20, 50]), torch.tensor([30, 60, 80])
    found = pairs_within(query, reference, q_offset, r_offset, 0.25, 4)
    exact = "donot_use_mm_for_euclid_dist"
    full = torch.cdist(query, reference, compute_mode=exact)
    full[:20, 30:] = torch.inf
    full[20:, :60] = torch.inf
    distance, index = full.topk(4, largest=False)
    expected = [
        (row, column)
        for row in range(50)
        for column, far in zip(index[row].tolist(), distance[row].tolist(), strict=True)
        if far < 0.25
    ]
    assert [tuple(pair) for pair in found.tolist()] == expected
    assert 20 < len(expected) < 200


def test_pairs_of_few_points():
    query, reference = torch.zeros(2, 3), torch.zeros(1, 3)
    counts = torch.tensor([2]), torch.tensor([1])
    found = pairs_within(query, reference, *counts, 0.1, 8)
    assert found.tolist() == [[0, 0], [1, 0]]
    found = pairs_within(query, reference[:0], counts[0], torch.tensor([0]), 0.1, 8)
    assert found.shape == (0, 2)
