"""Pickles from elsewhere: plain values come through, everything else is refused."""

import datetime
import os
import pickle

import numpy as np
import pytest

from pointins_plugin.errors import UserError
from pointins_plugin.safe_pickle import load_plain, loads_plain

VALUES = [
    {"a": [1, 2.5, "text", None, True], "b": (1, {2, 3}, b"raw", 1 + 2j)},
    np.arange(6, dtype=np.int16).reshape(2, 3),
    np.float32(1.5),
    np.str_("text"),
    np.bool_(True),
    np.zeros((0, 3)),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(24).reshape(2, 3, 4).transpose(1, 2, 0),
    np.arange(3, dtype=">i4"),
    np.zeros(2, dtype=[("a", "f4", (2,)), ("b", [("c", "u1")])]),
    np.array(["a", "bc"]),
    np.array([(1, 2.0)], dtype=[("x", "i4"), ("y", "f8")]),
]


class _Calls:
    def __reduce__(self):
        return os.getenv, ("HOME",)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("index", range(len(VALUES)))
def test_plain_values_round_trip(index, protocol):
    data = pickle.dumps(VALUES[index], protocol=protocol)
    value, found = pickle.loads(data), loads_plain(data)
    if index:
        np.testing.assert_array_equal(found, value)
        assert found.dtype == value.dtype
        assert type(found) is type(value)
    else:
        assert found == value


def test_names_of_numpy_1():
    data = pickle.dumps(np.arange(3), protocol=2)
    old = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert old != data or b"numpy.core.multiarray" in data
    np.testing.assert_array_equal(loads_plain(old), np.arange(3))


@pytest.mark.parametrize(
    "value", [_Calls(), datetime.date(2026, 1, 1), os.getenv, print]
)
def test_anything_else_is_refused(value):
    with pytest.raises(pickle.UnpicklingError, match="no plain value"):
        loads_plain(pickle.dumps(value))


@pytest.mark.parametrize(
    "source", [b"cos\nsystem\n(S'true'\ntR.", b"cbuiltins\neval\n(S'1'\ntR."]
)
def test_calls_written_by_hand_are_refused(source):
    with pytest.raises(pickle.UnpicklingError, match="no plain value"):
        loads_plain(source)


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_inside_containers_come_through(protocol):
    array = np.arange(3)
    shared = {"matrix": np.eye(4), "none": None}
    value = {"a": [array, (array, [array])], "sweeps": [shared, shared]}
    value["self"] = value
    found = loads_plain(pickle.dumps(value, protocol=protocol))
    assert found["self"] is found
    assert found["sweeps"][0] is found["sweeps"][1]
    for item in (found["a"][0], found["a"][1][0], found["a"][1][1][0]):
        assert type(item) is np.ndarray
        np.testing.assert_array_equal(item, array)
    np.testing.assert_array_equal(found["sweeps"][1]["matrix"], np.eye(4))
    bytearrays = pickle.dumps([bytearray(b"raw"), bytearray()], protocol=protocol)
    assert loads_plain(bytearrays) == [b"raw", b""]


class _Reduced:
    def __init__(self, *state):
        self.state = state

    def __reduce__(self):
        return self.state


def array_of(dtype, shape=(1,), data=b"A" * 8):
    """Return what pickles to an array with a state of one's choice."""
    rebuild = np.empty(0).__reduce__()[0]
    start = (np.ndarray, (0,), b"b")
    return _Reduced(rebuild, start, (1, shape, dtype, False, data))


def dtype_of(code, *state):
    return _Reduced(np.dtype, (code, False, True), (3, "|", *state))


FORGED = {
    # NumPy itself would take these bytes for pointers
    "objects": array_of(dtype_of("O8", None, None, None, -1, -1, 0)),
    "hidden objects": array_of(
        dtype_of("V8", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)
    ),
    "objects by name": np.array([_Calls()], dtype=object),
    "harmless objects": np.array(["a", None], dtype=object),
    "too few bytes": array_of(np.dtype("f8"), shape=(2,)),
    "negative shape": array_of(np.dtype("f8"), shape=(-1, -1)),
    "no dtype": array_of("f8"),
    "another array": _Reduced(np.empty(0).__reduce__()[0], (set, (0,), b"b")),
    "scalar": _Reduced(np.float64(0).__reduce__()[0], (np.dtype("f8"), b"AA")),
    "memory": _Reduced(bytearray, (2**40,)),
    "array called": _Reduced(np.ndarray, ((2**40,),)),
    "function": np.empty(0).__reduce__()[0],
    "byte order": array_of(
        _Reduced(np.dtype, ("f8", False, True), (3, "x") + 5 * (0,))
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_values_are_refused(name):
    with pytest.raises(pickle.UnpicklingError, match="it "):
        loads_plain(pickle.dumps(FORGED[name]))


@pytest.mark.parametrize("data", [b"", b"junk", pickle.dumps([1] * 50)[:-7]])
def test_damaged_files_are_one_line(tmp_path, data):
    path = tmp_path / "info.pkl"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"info file .*info\.pkl is refused") as error:
        load_plain(path, "info file")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="cannot be read"):
        load_plain(tmp_path / "none.pkl")
