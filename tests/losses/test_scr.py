"""SCR: components by hand, targets, presets, invariances, degenerate input."""

import pytest
import torch

from pointins_plugin.losses import scr
from pointins_plugin.losses.scr import (
    SCRLoss,
    consistency_loss,
    pseudo_targets,
    select_components,
    spatial_components,
)

PITCH = 0.1


def two_blobs(n=40, gap=2.0, seed=0):
    """Two blobs of radius about 0.3 m whose centres lie ``gap`` metres apart."""
    generator = torch.Generator().manual_seed(seed)
    coord = torch.randn(2 * n, 3, generator=generator) * 0.1
    truth = torch.arange(2 * n) // n
    coord[:, 0] += gap * truth
    centroid = torch.stack([coord[truth == k].mean(0) for k in (0, 1)])
    return coord, centroid[truth] - coord, truth


def same_partition(a, b):
    return torch.equal(a[:, None] == a, b[:, None] == b)


@pytest.mark.parametrize("graph", ["centre", "spatial"])
def test_two_blobs_in_one_segment_give_two_components(graph):
    coord, shift, truth = two_blobs()
    scr = SCRLoss(graph=graph, segments="kmeans", num_segments=1, radius=2.5)
    label = scr.pseudo_instances(
        coord, shift, torch.tensor([80]), PITCH, 1.0, feature=torch.ones(80, 4)
    )
    assert same_partition(label, truth)


def test_segments_cut_components():
    coord, shift, _ = two_blobs(n=20)
    feature = torch.zeros(40, 2)
    half = torch.arange(40) % 2
    feature[torch.arange(40), half] = 1.0
    scr = SCRLoss(graph="centre", segments="kmeans", num_segments=2, radius=2.5)
    label = scr.pseudo_instances(
        coord, shift, torch.tensor([40]), PITCH, 1.0, feature=feature
    )
    assert same_partition(label, (torch.arange(40) // 20) * 2 + half)


def test_clouds_are_not_connected():
    coord, shift, _ = two_blobs(gap=0.0)
    for graph in ("centre", "spatial"):
        scr = SCRLoss(graph=graph, segments="none", radius=5.0, min_size=1)
        label = scr.pseudo_instances(coord, shift, torch.tensor([40, 80]), PITCH, 1.0)
        assert same_partition(label, torch.arange(80) // 40)


def test_spatial_edges_need_agreeing_centres():
    # A chain of points one pitch apart: the left half points left, the right half
    # right, so that only the centres in the middle disagree.
    coord = torch.zeros(20, 3)
    coord[:, 0] = torch.arange(20) * PITCH
    centre = torch.zeros(20, 3)
    centre[10:, 0] = 1.9
    offset = torch.tensor([20])
    label = spatial_components(coord, centre, offset, radius=0.3, num_neighbours=4)
    assert same_partition(label, torch.arange(20) // 10)
    merged = spatial_components(coord, centre, offset, radius=2.0, num_neighbours=4)
    assert same_partition(merged, torch.zeros(20))


def test_long_edges_are_no_edges():
    # two rows of four, 1 m apart, and a gap of 0.3 m in the second
    coord = torch.tensor([[0.1 * i, 0, 0] for i in range(4)])
    coord = torch.cat([coord, coord + torch.tensor([0, 1.0, 0])])
    coord[6:, 0] += 0.2
    given = coord, coord, torch.tensor([8]), None
    rows = torch.arange(8) // 4
    assert same_partition(spatial_components(*given, max_edge=0.5), rows)
    parts = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
    assert same_partition(spatial_components(*given, max_edge=0.25), parts)
    assert same_partition(spatial_components(*given), torch.zeros(8))
    scr = SCRLoss("target", "spatial", "none", radius=None, max_edge=2.5, min_size=2)
    label = scr.pseudo_instances(coord, coord * 9, torch.tensor([8]), PITCH, 1.0)
    assert same_partition(label, parts)  # whatever the offsets say


def test_duplicate_centres_stay_one_instance():
    """Exact offsets put all points of a thing on one place: nothing may shatter."""
    coord, shift, truth = two_blobs(n=500)
    scr = SCRLoss(graph="centre", segments="none", radius=1.5)
    label = scr.pseudo_instances(coord, shift, torch.tensor([1000]), PITCH, 1.0)
    assert same_partition(label, truth)


def test_targets_sum_to_zero_and_point_to_centroids():
    coord, shift, truth = two_blobs()
    target, has_target = pseudo_targets(coord, truth)
    assert has_target.all()
    torch.testing.assert_close(target, shift, atol=1e-5, rtol=0)
    for k in (0, 1):
        assert target[truth == k].sum(0).abs().max() < 1e-4


def test_small_and_huge_components_are_dropped():
    coord, _, truth = two_blobs(n=30)
    label = truth.clone()
    label[:3] = 7
    coord[-1] = coord[-1] + 5.0
    kept = select_components(label, coord, min_size=4)
    assert (kept[:3] == -1).all()
    assert sorted(kept.unique().tolist()) == [-1, 0, 1]
    small = select_components(label, coord, min_size=4, drop_huge=1.0)
    assert (small[30:] == -1).all()
    assert (small[3:30] == 0).all()


def test_fallbacks_and_planes():
    coord, shift, truth = two_blobs()
    label = torch.where(truth == 0, 0, -1)
    plane = torch.zeros(80, dtype=torch.bool)
    plane[-5:] = True
    regular = torch.full_like(shift, 0.25)
    target, mask = SCRLoss(fallback="odr").targets(coord, label, regular)
    assert mask.all()
    torch.testing.assert_close(target[40:], regular[40:])
    _, mask = SCRLoss(fallback="none").targets(coord, label, regular)
    assert mask.tolist() == [True] * 40 + [False] * 40
    excluding = SCRLoss(fallback="odr", exclude_planes=True)
    _, mask = excluding.targets(coord, label, regular, plane)
    assert mask.tolist() == [True] * 75 + [False] * 5


@pytest.mark.parametrize("graph", ["centre", "spatial"])
def test_planes_take_no_part_in_the_graph(graph):
    coord, shift, truth = two_blobs(gap=1.0)
    bridge = torch.zeros(50, 3)
    bridge[:, 0] = torch.linspace(0, 1.0, 50)
    coord, shift = torch.cat([coord, bridge]), torch.cat([shift, bridge * 0])
    plane = torch.arange(130) >= 80
    scr = SCRLoss(graph=graph, segments="none", radius=3.0, exclude_planes=True)
    offset = torch.tensor([130])
    label = scr.pseudo_instances(coord, shift, offset, PITCH, 1.0, plane=plane)
    assert (label[80:] == -1).all()
    assert same_partition(label[:80], truth)
    joined = scr.pseudo_instances(coord, shift, offset, PITCH, 1.0)
    assert same_partition(joined, torch.zeros(130))


@pytest.mark.parametrize("graph", ["centre", "spatial"])
def test_permutation_and_rigid_motion(graph):
    coord, shift, _ = two_blobs(gap=0.5, seed=3)
    scr = SCRLoss(graph=graph, segments="none", radius=1.0, min_size=2)
    offset = torch.tensor([80])
    label = scr.pseudo_instances(coord, shift * 0.5, offset, PITCH, 1.0)
    shuffle = torch.randperm(80, generator=torch.Generator().manual_seed(1))
    moved = scr.pseudo_instances(
        coord[shuffle], shift[shuffle] * 0.5, offset, PITCH, 1.0
    )
    assert same_partition(moved, label[shuffle])
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    turned = scr.pseudo_instances(
        coord @ turn.t() + 3, shift @ turn.t() * 0.5, offset, PITCH, 1.0
    )
    assert same_partition(turned, label)


def test_forward_is_zero_on_its_own_targets():
    coord, shift, truth = two_blobs()
    scr = SCRLoss()
    assert scr(shift, coord, truth, shift) == pytest.approx(0, abs=1e-4)
    assert scr(shift * 0.5, coord, truth, shift) > 0.05


def test_consistency_asks_for_agreement_not_for_a_place():
    coord, shift, truth = two_blobs()
    assert consistency_loss(shift, coord, truth) == pytest.approx(0, abs=1e-5)
    assert consistency_loss(shift + 3.0, coord, truth) == pytest.approx(0, abs=1e-5)
    spread = consistency_loss(torch.zeros_like(shift), coord, truth)
    expected = shift.abs().sum(1).mean()
    torch.testing.assert_close(spread, expected)


def test_consistency_gradient_in_float64():
    coord, shift, truth = two_blobs(n=3)
    student = (shift.double() * 0.3).requires_grad_()

    def value(x):
        return consistency_loss(x, coord, truth, unit=0.4)

    assert torch.autograd.gradcheck(value, (student,))


@pytest.mark.parametrize("mode", ["target", "consistency"])
@pytest.mark.parametrize("num", [0, 1, 6])
def test_degenerate_input_is_finite(mode, num):
    coord = torch.zeros(num, 3)
    offset = torch.tensor([num])
    for graph in ("centre", "spatial"):
        scr = SCRLoss(mode=mode, graph=graph, fallback="none", min_size=2)
        label = scr.pseudo_instances(
            coord, coord, offset, PITCH, 1.0, feature=torch.ones(num, 4)
        )
        student = torch.zeros(num, 3, requires_grad=True)
        loss = scr(student, coord, label, coord)
        (gradient,) = torch.autograd.grad(loss, student)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


def test_bad_choices_name_the_argument():
    with pytest.raises(ValueError, match="graph must be one of"):
        SCRLoss(graph="knn")
    with pytest.raises(ValueError, match="radius > 0"):
        SCRLoss(radius=0)
    with pytest.raises(ValueError, match="max_edge > 0"):
        SCRLoss(max_edge=-1.0)
    with pytest.raises(ValueError, match="needs a radius"):
        SCRLoss(graph="centre", radius=None)


def test_the_components_of_a_gpu_are_those_of_scipy(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    coord = torch.rand(600, 3, generator=generator)
    centre = coord + 0.1 * torch.randn(600, 3, generator=generator)
    keep = torch.rand(600, generator=generator) < 0.8
    offset = torch.tensor([250, 600])
    arguments = (coord, centre, offset, 0.12)
    expected = spatial_components(*arguments, keep=keep)
    assert 10 < int(expected.max()) < 550
    monkeypatch.setattr(scr, "_linked_components", scr.neighbour_components)
    assert torch.equal(spatial_components(*arguments, keep=keep), expected)


def test_a_bound_on_the_labels_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    coord = torch.rand(100, 3, generator=generator)
    label = torch.randint(-1, 12, (100,), generator=generator)
    for drop_huge in (None, 0.7):
        expected = scr.select_components(label, coord, 6, drop_huge)
        found = scr.select_components(label, coord, 6, drop_huge, num_labels=100)
        assert torch.equal(found, expected)
    for found, expected in zip(
        scr.pseudo_targets(coord, label, 100),
        scr.pseudo_targets(coord, label),
        strict=True,
    ):
        assert torch.equal(found, expected)


def test_there_must_be_something_to_fall_back_to():
    coord, label = torch.rand(6, 3), torch.tensor([0, 0, 0, 0, -1, -1])
    student = torch.full((6, 3), 0.3)
    with pytest.raises(ValueError, match="needs shift"):
        SCRLoss(fallback="odr")(student, coord, label)
    assert torch.isfinite(SCRLoss(fallback="none")(student, coord, label))
