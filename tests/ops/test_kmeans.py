"""k-means: separated blobs, determinism, an independent inertia bound."""

import torch

from pointins_plugin.ops.kmeans import kmeans


def blobs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(6, 8, generator=generator) * 10
    truth = torch.arange(6).repeat_interleave(50)
    return centres[truth] + torch.randn(300, 8, generator=generator) * 0.1, truth


def same_partition(a, b):
    return torch.equal(a[:, None] == a, b[:, None] == b)


def test_finds_separated_blobs():
    feature, truth = blobs()
    found = kmeans(feature, 6, generator=torch.Generator().manual_seed(3))
    assert same_partition(found, truth)


def test_same_seed_same_clusters():
    feature = torch.randn(200, 4, generator=torch.Generator().manual_seed(1))
    runs = [
        kmeans(feature, 7, generator=torch.Generator().manual_seed(5)) for _ in range(2)
    ]
    assert torch.equal(*runs)


def test_inertia_is_close_to_sklearn():
    sklearn = __import__("sklearn.cluster", fromlist=["KMeans"])
    feature = torch.randn(2000, 16, generator=torch.Generator().manual_seed(2))
    label = kmeans(
        feature, 10, num_iters=50, generator=torch.Generator().manual_seed(0)
    )
    ours = sum(
        float((feature[label == k] - feature[label == k].mean(0)).square().sum())
        for k in label.unique()
    )
    theirs = sklearn.KMeans(10, n_init=1, random_state=0).fit(feature.numpy()).inertia_
    assert ours < 1.03 * theirs


def test_degenerate_inputs():
    assert len(kmeans(torch.zeros(0, 3), 4)) == 0
    assert kmeans(torch.zeros(3, 3), 4).tolist() == [0, 1, 2]
    identical = kmeans(torch.ones(20, 3), 4)
    assert identical.shape == (20,)
    assert len(identical.unique()) == 1


def test_features_far_from_the_origin_lose_nothing():
    feature, truth = blobs()
    found = kmeans(feature + 1e5, 6, generator=torch.Generator().manual_seed(3))
    assert same_partition(found, truth)
