"""Data sets of arrays and by name: sizes, classes, types, and every way to give them wrong."""

import os
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from palaver.data import NAMES, from_arrays, load, subset
from palaver.data import files as official_files
from palaver.types import PalaverError


def _numbered(examples, classes=4, **settings):
    """A set whose only input is the example's own number."""
    x = np.arange(examples)[:, None] + 1000
    return from_arrays(x, np.arange(examples) % classes, **settings)


def test_cuts_are_exclusive_exhaustive_stratified_and_repeatable():
    data = _numbered(200, seed=3)
    assert [len(y) for y in (data.y_train, data.y_validation, data.y_test)] == [140, 20, 40]
    assert np.bincount(data.y_train).tolist() == [35] * 4
    assert np.bincount(data.y_validation).tolist() == [5] * 4
    assert np.bincount(data.y_test).tolist() == [10] * 4
    rows = np.concatenate([data.x_train, data.x_validation, data.x_test])[:, 0] - 1000
    assert np.array_equal(np.sort(rows), np.arange(200))
    assert np.array_equal((data.x_test[:, 0] - 1000) % 4, data.y_test)
    assert np.array_equal(data.x_test, _numbered(200, seed=3).x_test)
    assert not np.array_equal(data.x_test, _numbered(200, seed=4).x_test)


def test_given_test_part_is_kept_as_it_is():
    x_test, y_test = np.full((3, 1), 7), [2, 0, 1]
    data = from_arrays(np.arange(50)[:, None], np.arange(50) % 3, x_test=x_test, y_test=y_test, validation=0.2)
    assert (len(data.y_train), len(data.y_validation), data.y_test.tolist(), data.classes) == (40, 10, [2, 0, 1], 3)
    assert data.x_test.tolist() == [[7], [7], [7]]


def test_a_class_with_one_example_is_cut_at_random_instead():
    data = from_arrays(np.arange(20)[:, None], [0] * 19 + [1])
    assert [len(y) for y in (data.y_train, data.y_validation, data.y_test)] == [14, 2, 4]
    assert sum(int(y.sum()) for y in (data.y_train, data.y_validation, data.y_test)) == 1


def test_three_examples_are_the_fewest():
    data = _numbered(3, classes=1)
    assert [len(y) for y in (data.y_train, data.y_validation, data.y_test)] == [1, 1, 1]
    with pytest.raises(PalaverError, match="2 examples leave none to train on"):
        _numbered(2, classes=1)


@pytest.mark.parametrize(
    ("values", "dtype", "bits"),
    [
        (np.array([0, 255], np.int64), np.float32, 32),  # perhaps counts: only uint8 means pixels
        (np.array([-1, 3], np.int8), np.float32, 32),
        (np.array([0, 1], np.uint8), np.uint8, 8),
        (np.array([0.5, 2.0], np.float64), np.float32, 32),
        (np.array([False, True]), np.float32, 32),
    ],
)
def test_types_and_bits(values, dtype, bits):
    x = np.tile(values[:, None, None, None], (10, 2, 3, 1))
    data = from_arrays(x, np.arange(20) % 2)
    assert data.x_train.dtype == data.x_test.dtype == dtype
    assert data.y_train.dtype == np.int32
    assert data.shape == (2, 3, 1)
    assert data.bits_per_example == 6 * bits
    assert sorted(np.unique(data.x_train)) == sorted(values.astype(dtype))


X, Y = np.zeros((20, 2), np.float32), np.arange(20) % 2


def _with(array, at, value):
    changed = array.copy()
    changed[at] = value
    return changed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": X[:19]}, "x has 19 examples and y 20"),
        ({"x": X[:0], "y": Y[:0]}, r"x has shape \(0, 2\): give at least one example"),
        ({"x": X[:, 0]}, r"x has shape \(20,\)"),
        ({"x": X.astype(str)}, "x holds <U"),
        ({"x": _with(X, (17, 1), np.nan)}, "x holds non-finite values at example 17"),
        ({"x": _with(X.astype(float), (4, 0), 1e300)}, "x holds non-finite values at example 4"),
        ({"x_test": _with(X, (6, 0), np.inf), "y_test": Y}, "x_test holds non-finite values at example 6"),
        ({"y": _with(Y, 5, 12), "classes": 10}, "label 12 at example 5 of y is out of range: give 0 to 9"),
        ({"y": _with(Y, 7, -1)}, "label -1 at example 7 of y is out of range"),
        ({"x_test": X, "y_test": _with(Y, 3, 2), "classes": 2}, "label 2 at example 3 of y_test is out of range"),
        ({"y": Y.astype(float)}, "y holds float64: give integer class ids"),
        ({"y": Y[:, None]}, r"y has shape \(20, 1\)"),
        ({"x_test": X}, "y_test is missing"),
        ({"y_test": Y}, "x_test is missing"),
        ({"x_test": X[:, :1], "y_test": Y}, "give both the same shape and kind"),
        ({"x_test": X.astype(np.uint8), "y_test": Y}, "give both the same shape and kind"),
        ({"validation": 0.0}, r"validation is 0\.0: give a number in \(0, 1\)"),
        ({"test": 1.5}, r"test is 1\.5: give a number in \(0, 1\)"),
        ({"test": 0.5, "validation": 0.5}, "20 examples leave none to train on"),
        ({"classes": 0}, "classes is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_arrays_are_named(arguments, message):
    with pytest.raises(PalaverError, match=message) as caught:
        from_arrays(**({"x": X, "y": Y} | arguments))
    assert "\n" not in str(caught.value)


def test_subset_is_repeatable_and_nested():
    data = _numbered(200)
    small, large = subset(data, 10, 5, 7), subset(data, 30, 20, 40)
    assert [len(y) for y in (small.y_train, small.y_validation, small.y_test)] == [10, 5, 7]
    assert np.array_equal(small.x_train, large.x_train[:10])
    assert np.array_equal(small.x_train, subset(data, 10, 5, 7).x_train)
    assert np.array_equal((small.x_train[:, 0] - 1000) % 4, small.y_train)
    assert len(np.unique(large.x_train)) == 30
    assert not np.array_equal(small.x_train, data.x_train[:10])


@pytest.mark.parametrize(
    ("sizes", "message"),
    [((141, 1, 1), "train is 141 of the 140 examples in arrays"), ((1, 0, 1), "validation is 0"), ((1, 1, 41), "test")],
)
def test_subset_cannot_take_more_than_there_is(sizes, message):
    with pytest.raises(PalaverError, match=message):
        subset(_numbered(200), *sizes)


def test_digits():
    data = load("digits")
    assert (data.name, data.classes, data.shape, data.bits_per_example) == ("digits", 10, (8, 8), 512)
    assert [len(y) for y in (data.y_train, data.y_validation, data.y_test)] == [1257, 270, 270]
    assert data.x_train.dtype == np.uint8
    assert (data.x_train.min(), data.x_train.max()) == (0, 255)
    assert np.bincount(data.y_test).tolist() == [27, 27, 27, 28, 27, 27, 27, 27, 26, 27]
    assert set(np.unique(data.x_train)) <= {round(value * 255 / 16) for value in range(17)}
    assert np.array_equal(data.x_train, load("digits").x_train)


@pytest.mark.parametrize("name", ["mnits", "idx:", "npz", "", "csv:file"])
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(PalaverError, match="is unknown: choose one of digits, mnist, .*idx:DIR, npz:FILE"):
        load(name)


def test_npz_without_and_with_a_test_part(tmp_path):
    x, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    np.savez(tmp_path / "a.npz", x=x, y=y)
    data = load(f"npz:{tmp_path / 'a.npz'}")
    assert [len(part) for part in (data.y_train, data.y_validation, data.y_test)] == [14, 2, 4]
    assert data.name == f"npz:{tmp_path / 'a.npz'}"
    np.savez(tmp_path / "b.npz", x=x, y=y, x_test=x[:3], y_test=y[:3])
    data = load(f"npz:{tmp_path / 'b.npz'}")
    assert [len(part) for part in (data.y_train, data.y_validation, data.y_test)] == [18, 2, 3]
    with pytest.raises(PalaverError, match=r"c\.npz is missing"):
        load(f"npz:{tmp_path / 'c.npz'}")


def test_a_wrong_official_file_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("PALAVER_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"other")
    wrong = "is not the official file: its md5 is 795f3202b17cb6bc3d4b771d8c6c9eaf, expected f68b3c2dcbea.*delete it"
    with pytest.raises(PalaverError, match=wrong):
        load("mnist")


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_failed_download_is_one_line(name, tmp_path, monkeypatch):
    attribute = name.replace("-", "_").replace("cifar10", "CIFAR10").upper()
    unreachable = getattr(official_files, attribute)._replace(base="http://127.0.0.1:9/")
    monkeypatch.setattr(official_files, attribute, unreachable)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(PalaverError, match="did not come from http://127.0.0.1:9/.*put it there by hand") as caught:
        load(name, tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / unreachable.folder) in str(caught.value)
    assert next(iter(unreachable.hashes)) in str(caught.value)


def _official_data(folder):
    root = os.environ.get("PALAVER_DATA")
    return root if root and (Path(root) / folder).is_dir() else None


def test_mnist():
    root = _official_data("mnist")
    if root is None:
        print("no MNIST under PALAVER_DATA: testing digits instead")
        data = load("digits")
        all_labels = np.concatenate([data.y_train, data.y_validation, data.y_test])
        assert np.bincount(all_labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
        return
    data = load("mnist", root)
    assert [len(y) for y in (data.y_train, data.y_validation, data.y_test)] == [50_000, 10_000, 10_000]
    assert (data.shape, data.bits_per_example, data.classes) == ((28, 28), 6272, 10)
    assert data.y_test[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    both = np.bincount(data.y_train) + np.bincount(data.y_validation)
    assert both.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    pixels = data.x_train.sum(dtype=np.int64) + data.x_validation.sum(dtype=np.int64)
    assert pixels / (60_000 * 784 * 255) == pytest.approx(0.1307, abs=5e-5)


def test_cifar10(tmp_path, monkeypatch):
    root = _official_data("cifar-10-batches-bin")
    if root is None:
        print("no CIFAR-10 under PALAVER_DATA: testing written batches of 20 images instead")
        root = _write_cifar(tmp_path, monkeypatch)
        data = load("cifar10", root)
        assert [len(y) for y in (data.y_train, data.y_validation, data.y_test)] == [90, 10, 20]
        assert data.shape == (32, 32, 3)
        return
    data = load("cifar10", root)
    assert [len(y) for y in (data.y_train, data.y_validation, data.y_test)] == [45_000, 5_000, 10_000]
    assert (data.shape, data.bits_per_example, data.classes) == ((32, 32, 3), 24_576, 10)
    assert np.bincount(data.y_validation).tolist() == [500] * 10
    assert data.y_test[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    pixels = data.x_train.sum((0, 1, 2), dtype=np.int64) + data.x_validation.sum((0, 1, 2), dtype=np.int64)
    assert pixels / (50_000 * 1024 * 255) == pytest.approx([0.4914, 0.4822, 0.4465], abs=5e-5)


def _write_cifar(root, monkeypatch):
    folder, hashes = root / official_files.CIFAR10.folder, {}
    folder.mkdir()
    for number, name in enumerate(official_files.CIFAR10.hashes):
        records = np.random.default_rng(number).integers(0, 256, (20, 3073), np.uint8)
        records[:, 0] = np.arange(20) % 10
        (folder / name).write_bytes(records.tobytes())
        hashes[name] = "sha256:" + sha256(records.tobytes()).hexdigest()
    monkeypatch.setattr(official_files, "CIFAR10", official_files.CIFAR10._replace(hashes=hashes))
    return root


def test_written_cifar_files_load_without_the_official_ones(tmp_path, monkeypatch):
    data = load("cifar10", _write_cifar(tmp_path, monkeypatch))
    assert [len(y) for y in (data.y_train, data.y_validation, data.y_test)] == [90, 10, 20]
    records = np.random.default_rng(5).integers(0, 256, (20, 3073), np.uint8)
    assert data.x_test[3, 2, 5].tolist() == records[3, [1 + 69, 1 + 1024 + 69, 1 + 2048 + 69]].tolist()
