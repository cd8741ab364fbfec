"""Smoothing: shared centres stay, jumps close, clouds and planes keep apart."""

import torch

from pointins_plugin.ops.smoothing import smooth_offsets, smooth_things


def line(n=20):
    coord = torch.zeros(n, 3)
    coord[:, 0] = torch.arange(n) * 0.1
    return coord


def test_a_shared_centre_is_a_fixed_point():
    coord = torch.rand(100, 3, generator=torch.Generator().manual_seed(0))
    shift = torch.tensor([0.3, 0.4, 0.5]) - coord
    found = smooth_offsets(coord, shift, torch.tensor([100]), rounds=3)
    torch.testing.assert_close(found, shift, atol=1e-6, rtol=0)


def test_mean_of_neighbours_by_hand():
    coord = line(3)
    centre = torch.tensor([[0.0, 0, 0], [0.3, 0, 0], [0.9, 0, 0]])
    options = {"rounds": 1, "num_neighbours": 2, "reach": 0.15}
    found = smooth_offsets(coord, centre - coord, torch.tensor([3]), **options)
    expected = torch.tensor([0.15, 0.4, 0.6])
    torch.testing.assert_close((coord + found)[:, 0], expected)


def test_noise_of_centres_shrinks():
    coord = torch.rand(500, 3, generator=torch.Generator().manual_seed(1))
    noise = 0.1 * torch.randn(500, 3, generator=torch.Generator().manual_seed(2))
    found = smooth_offsets(coord, noise - coord, torch.tensor([500])) + coord
    assert found.std() < 0.4 * noise.std()


def test_clouds_and_left_out_points_do_not_mix():
    coord, shift = line(), torch.zeros(20, 3)
    shift[10:, 1] = 1.0
    apart = smooth_offsets(coord, shift, torch.tensor([10, 20]), num_neighbours=4)
    torch.testing.assert_close(apart, _with_means(coord, apart, shift))
    keep = torch.arange(20) < 10
    found = smooth_offsets(
        coord, shift, torch.tensor([20]), num_neighbours=4, keep=keep
    )
    assert torch.equal(found[10:], shift[10:])
    assert (found[:10, 1] == 0).all()
    mixed = smooth_offsets(coord, shift, torch.tensor([20]), num_neighbours=4)
    assert mixed[9, 1] > 0.1


def _with_means(coord, found, shift):
    """The y of each cloud is constant, so smoothing must not change it."""
    expected = found.clone()
    expected[:, 1] = shift[:, 1]
    return expected


def test_few_points_and_no_rounds():
    for n in (0, 1):
        coord = torch.zeros(n, 3)
        assert smooth_offsets(coord, coord, torch.tensor([n])).shape == (n, 3)
    shift = torch.rand(5, 3)
    assert smooth_offsets(line(5), shift, torch.tensor([5]), rounds=0) is shift


def test_stuff_keeps_its_offsets_and_does_not_count():
    coord, shift = line(), torch.zeros(20, 3)
    shift[10:, 1] = 1.0
    probability = torch.eye(3)[torch.tensor([0] * 5 + [1] * 5 + [2] * 10)]
    found = smooth_things(
        coord, shift, probability, (-1, 2, 7), torch.tensor([20]), num_neighbours=4
    )
    assert torch.equal(found[10:], shift[10:])
    assert (found[:10, 1] == 0).all()
    assert found[0, 0] > 0
