"""Official files: read back, cut short, flipped, and downloaded from a server on this machine."""

import gzip
import hashlib
import io
import struct
import tarfile
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from palaver import host
from palaver.data import load
from palaver.data.files import Official, fetch, read_cifar, read_idx, read_npz
from palaver.types import PalaverError


def _idx(array):
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def _one_line(caught, *words):
    text = str(caught.value)
    assert "\n" not in text
    assert all(word in text for word in words), text


@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_idx_is_read_plain_and_compressed(tmp_path, name):
    raw = _idx(IMAGES)
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    assert np.array_equal(read_idx(tmp_path / name), IMAGES)


def test_idx_cut_anywhere_or_too_long_is_an_error(tmp_path):
    raw, path = _idx(IMAGES), tmp_path / "images"
    for bad in [raw[:length] for length in range(len(raw))] + [raw + b"\0"]:
        path.write_bytes(bad)
        with pytest.raises(PalaverError) as caught:
            read_idx(path)
        _one_line(caught, str(path), "replace it by the original")


def test_idx_header_with_any_byte_flipped_is_an_error(tmp_path):
    raw, path = _idx(IMAGES), tmp_path / "images"
    for place in range(16):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 0xFF]) + raw[place + 1 :])
        with pytest.raises(PalaverError) as caught:
            read_idx(path)
        _one_line(caught, str(path), "replace it by the original")


def test_idx_says_what_it_expected(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(_idx(IMAGES)[:-1])
    with pytest.raises(PalaverError, match=r"holds 23 values, its header says 24 \(shape \(2, 3, 4\)\)"):
        read_idx(path)
    path.write_bytes(b"GIF89a")
    with pytest.raises(PalaverError, match="begins with 47494638, no IDX header"):
        read_idx(path)
    with pytest.raises(PalaverError, match="other is missing: put the file there"):
        read_idx(tmp_path / "other")


def test_idx_with_more_axes_than_a_data_set_has_is_an_error(tmp_path):
    (tmp_path / "images").write_bytes(b"\0\0\x08\xff" + struct.pack(">255I", *[1] * 255) + b"\0")
    with pytest.raises(PalaverError) as caught:
        read_idx(tmp_path / "images")
    _one_line(caught, "000008ff", "1 to 4")


def test_npz_arrays_are_as_large_as_their_headers_say(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 2)})
    labels = io.BytesIO()
    np.save(labels, np.zeros(3, np.int32))
    with zipfile.ZipFile(tmp_path / "large.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue())
        archive.writestr("y.npy", labels.getvalue())
    with pytest.raises(PalaverError) as caught:
        read_npz(tmp_path / "large.npz")
    _one_line(caught, "x.npy holds 0 bytes, its header says 8000000000000")
    np.savez(tmp_path / "whole.npz", x=np.zeros((3, 2), np.float32), y=np.zeros(3, np.int32))
    assert read_npz(tmp_path / "whole.npz")["x"].shape == (3, 2)


def test_npz_arrays_fit_the_memory_that_the_container_has_left(tmp_path, monkeypatch):
    np.savez(tmp_path / "whole.npz", x=np.zeros((3, 2), np.float32), y=np.zeros(3, np.int32))
    monkeypatch.setattr(host, "_CONTAINER", tmp_path)
    for name, content in {"max": "1000", "current": "965", "stat": "anon 965"}.items():
        (tmp_path / f"memory.{name}").write_text(content)
    with pytest.raises(PalaverError) as caught:
        read_npz(tmp_path / "whole.npz")
    _one_line(caught, "its arrays take 3.6e-08 GB, and 3.5e-08 GB of memory are free")


def test_damaged_gzip_is_an_error(tmp_path):
    raw, path = gzip.compress(_idx(IMAGES), mtime=0), tmp_path / "images.gz"
    flipped = [raw[:i] + bytes([raw[i] ^ 0xFF]) + raw[i + 1 :] for i in range(10, len(raw))]
    for bad in [raw[:length] for length in range(len(raw))] + flipped:
        path.write_bytes(bad)
        with pytest.raises(PalaverError) as caught:
            read_idx(path)
        _one_line(caught, str(path), "replace it by the original")


def test_cifar_records(tmp_path):
    path = tmp_path / "batch.bin"
    red, green, blue = (np.full(1024, value, np.uint8) for value in (10, 20, 30))
    red[33] = 99
    path.write_bytes(b"\x07" + red.tobytes() + green.tobytes() + blue.tobytes() + b"\x02" + bytes(3072))
    x, y = read_cifar(path)
    assert (x.shape, x.dtype, y.tolist()) == ((2, 32, 32, 3), np.uint8, [7, 2])
    assert x[0, 0, 0].tolist() == [10, 20, 30]
    assert x[0, 1, 1].tolist() == [99, 20, 30]
    assert x[1].sum() == 0
    for bad in (b"", bytes(3072), bytes(2 * 3073 + 1)):
        path.write_bytes(bad)
        with pytest.raises(PalaverError, match=f"has {len(bad)} bytes, not a multiple of 3073"):
            read_cifar(path)
    with pytest.raises(PalaverError, match="none.bin is missing"):
        read_cifar(tmp_path / "none.bin")


def test_npz_damaged_or_incomplete_is_one_line(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, x=np.arange(12).reshape(4, 3), y=np.arange(4))
    raw = path.read_bytes()
    assert sorted(read_npz(path)) == ["x", "y"]
    for length in range(0, len(raw), 7):
        path.write_bytes(raw[:length])
        with pytest.raises(PalaverError) as caught:
            read_npz(path)
        _one_line(caught, str(path))
    for place in range(0, len(raw), 2):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 0xFF]) + raw[place + 1 :])
        try:  # the container has fields that nothing reads, so not every flip can be seen
            read_npz(path)
        except PalaverError as error:
            assert str(path) in str(error) and "\n" not in str(error)
    np.savez(path, x=np.zeros((4, 3)))
    with pytest.raises(PalaverError, match="has no array y: save it with numpy.savez"):
        read_npz(path)
    np.savez(path, x=np.array([{}], object), y=np.zeros(1, int))
    with pytest.raises(PalaverError, match="cannot be read"):
        read_npz(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(PalaverError, match="cannot be read"):
        read_npz(path)


def _write_idx_folder(folder, suffix=""):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, examples in (("train", 40), ("t10k", 10)):
        x, y = rng.integers(0, 256, (examples, 5, 4), np.uint8), (np.arange(examples) % 4).astype(np.uint8)
        for name, array in (("images-idx3", x), ("labels-idx1", y)):
            raw = _idx(array)
            (folder / f"{part}-{name}-ubyte{suffix}").write_bytes(gzip.compress(raw) if suffix else raw)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_folder_of_ones_own(tmp_path, suffix):
    _write_idx_folder(tmp_path / "mine", suffix)
    data = load(f"idx:{tmp_path / 'mine'}")
    assert [len(y) for y in (data.y_train, data.y_validation, data.y_test)] == [36, 4, 10]
    assert (data.shape, data.classes, data.bits_per_example) == ((5, 4), 4, 160)
    (tmp_path / "mine" / f"t10k-labels-idx1-ubyte{suffix}").unlink()
    with pytest.raises(PalaverError, match=r"t10k-labels-idx1-ubyte \(or t10k-labels-idx1-ubyte.gz\) is not in .*mine"):
        load(f"idx:{tmp_path / 'mine'}")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder and the address under which a server on this machine gives it out."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_files_are_downloaded_once_and_verified_always(served, tmp_path):
    folder, base = served
    contents = {"a.gz": b"first" * 50_000, "b.gz": b"second"}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    official = Official("set", base, {name: "md5:" + hashlib.md5(c).hexdigest() for name, c in contents.items()})
    root = tmp_path / "root"
    paths = fetch(official, root)
    assert paths == [root / "set" / "a.gz", root / "set" / "b.gz"]
    assert [path.read_bytes() for path in paths] == list(contents.values())

    assert fetch(official._replace(base="http://127.0.0.1:9/"), root) == paths
    paths[1].write_bytes(b"Second")
    got, expected = hashlib.md5(b"Second").hexdigest(), hashlib.md5(b"second").hexdigest()
    with pytest.raises(PalaverError) as caught:
        fetch(official, root)
    _one_line(caught, str(paths[1]), got, expected, "delete it")
    paths[1].unlink()
    assert fetch(official, root)[1].read_bytes() == b"second"


def test_a_download_with_another_checksum_is_not_kept(served, tmp_path):
    folder, base = served
    (folder / "a.gz").write_bytes(b"changed on the way")
    official = Official("set", base, {"a.gz": "md5:" + hashlib.md5(b"original").hexdigest()})
    with pytest.raises(PalaverError) as caught:
        fetch(official, tmp_path)
    _one_line(caught, "a.gz is not in", f"{base}a.gz", "does not match the known hash", "put it there by hand")
    assert not (tmp_path / "set").exists()


def test_a_download_that_fails_leaves_no_folder_and_says_one_line(served, tmp_path, capfd):
    (tmp_path / "there").mkdir()
    official = Official("set", served[1], {"a.gz": "md5:00"})
    with pytest.raises(PalaverError):
        fetch(official, tmp_path / "there" / "new" / "root")
    assert not list((tmp_path / "there").iterdir())
    assert capfd.readouterr() == ("", "")


def test_a_file_the_server_lacks_and_a_root_that_is_a_file(served, tmp_path):
    official = Official("set", served[1], {"a.gz": "md5:00"})
    with pytest.raises(PalaverError) as caught:
        fetch(official, tmp_path)
    _one_line(caught, "404", "put it there by hand")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PalaverError) as caught:
        fetch(official, tmp_path / "file")
    _one_line(caught, "put it there by hand", "PALAVER_DATA")


def _tar(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_an_archive_is_unpacked_and_each_file_verified(served, tmp_path):
    folder, base = served
    raw = _tar({"batches/one.bin": b"1" * 3073, "batches/two.bin": b"2" * 3073, "batches/readme.html": b"no"})
    (folder / "set.tar.gz").write_bytes(raw)
    hashes = {
        f"{name}.bin": "sha256:" + hashlib.sha256(c * 3073).hexdigest() for name, c in (("one", b"1"), ("two", b"2"))
    }
    official = Official("batches", base, hashes, ("set.tar.gz", "md5:" + hashlib.md5(raw).hexdigest()))
    root = tmp_path / "root"
    assert [path.read_bytes()[:1] for path in fetch(official, root)] == [b"1", b"2"]
    assert not (root / "batches" / "readme.html").exists()

    (root / "batches" / "two.bin").unlink()  # comes out of the archive again, without a server
    assert fetch(official._replace(base="http://127.0.0.1:9/"), root)[1].read_bytes() == b"2" * 3073
    (root / "batches" / "one.bin").write_bytes(b"1" * 3072)
    with pytest.raises(PalaverError, match=r"one\.bin is not the official file: its sha256 is"):
        fetch(official, root)


def test_an_archive_without_the_file_is_an_error(served, tmp_path):
    folder, base = served
    raw = _tar({"elsewhere/one.bin": b"1"})
    (folder / "set.tar.gz").write_bytes(raw)
    official = Official("batches", base, {"one.bin": "md5:00"}, ("set.tar.gz", "md5:" + hashlib.md5(raw).hexdigest()))
    with pytest.raises(PalaverError, match=r"one\.bin is missing"):
        fetch(official, tmp_path)
