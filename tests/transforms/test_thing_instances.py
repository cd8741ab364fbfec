"""Instances by hand, beside the host's parser."""

import numpy as np
import pytest

from pointins_plugin.errors import UserError
from pointins_plugin.host import Compose
from pointins_plugin.transforms import ThingInstances


def scan():
    return {
        "name": "a",
        "coord": np.array(
            [[0, 0, 0], [2, 0, 0], [5, 5, 5], [9, 9, 9], [1, 1, 1], [7, 0, 0]],
            np.float32,
        ),
        # classes: 0 stuff, 1 thing, -1 void
        "segment": np.array([1, 1, 1, 1, 0, -1]),
        "instance": np.array([7, 7, 3, -1, 7, 3]),
    }


def test_by_hand():
    result = ThingInstances(segment_ignore_index=(-1, 0))(scan())
    assert result["instance"].tolist() == [1, 1, 0, -1, -1, -1]
    expected = [[1, 0, 0], [1, 0, 0], [5, 5, 5], [-1] * 3, [-1] * 3, [-1] * 3]
    assert result["instance_centroid"].tolist() == expected


def test_as_the_host_where_all_things_have_an_id():
    rng = np.random.default_rng(0)
    data = {
        "coord": rng.random((500, 3)).astype(np.float32),
        "segment": rng.integers(-1, 5, 500),
        "instance": rng.integers(0, 20, 500),
    }
    ours = ThingInstances((-1, 0, 2))({**data})
    parser = dict(type="InstanceParser", segment_ignore_index=(-1, 0, 2))
    theirs = Compose([parser])({**data})
    np.testing.assert_array_equal(ours["instance"], theirs["instance"])
    np.testing.assert_allclose(
        ours["instance_centroid"], theirs["instance_centroid"], atol=1e-6
    )


def test_without_things():
    data = scan()
    data["segment"][:] = 0
    result = ThingInstances((-1, 0))(data)
    assert (result["instance"] == -1).all()
    assert result["instance_centroid"].shape == (6, 3)


def test_missing_labels_are_named():
    data = scan()
    del data["instance"]
    with pytest.raises(UserError, match="asks for 'instance', which scene a"):
        ThingInstances()(data)
