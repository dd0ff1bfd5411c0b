"""Pictures: the raster's pixels are the tiles', the bytes are the same twice, and a damaged file is one line."""

import base64
import io
import re

import matplotlib.image
import numpy as np
import pytest
from synthetic import STAGES, with_figures, write_pictures

from palaver import npz
from palaver.exchange.report import report
from palaver.exchange.report.pictures import caption, evenly, pictures, read_pictures
from palaver.report.drawing import raster
from palaver.report.page import write_report
from palaver.report.svg import size
from palaver.studies.results import read_result
from palaver.types import PalaverError


@pytest.fixture
def folder(unlabelled_copy):
    return unlabelled_copy


def rasters(svg: str) -> list[np.ndarray]:
    """The pictures inside an SVG, upright, uint8 ``[height, width, 3]``, in the order they are drawn."""
    found = []
    for image in re.findall(r"<image [^>]*>", svg):
        data = base64.b64decode(re.sub(r"\s", "", re.search(r'href="data:image/png;base64,([^"]*)"', image)[1]))
        pixels = np.rint(matplotlib.image.imread(io.BytesIO(data)) * 255).astype(np.uint8)[..., :3]
        turned = re.search(r"scale\(1 -1\)|matrix\([\d.e-]+ 0 0 -", image)
        found.append(pixels[::-1] if turned else pixels)
    return found


@pytest.mark.parametrize(("side", "colour"), [(8, False), (28, False), (32, True)])
def test_the_pixels_decode_back_to_the_tiles(folder, side, colour):
    held = write_pictures(folder, side, colour=colour, columns=3, rows=[2])
    stages = read_pictures(read_result(folder))[2]
    drawn = pictures(stages)
    kinds = ("reconstructions", "samples", "interpolations")
    expected = [held[f"2/{step}/{kind}"] for step in (0, 200, 400, 600) for kind in kinds]
    assert len(drawn) == len(expected) == 12
    for svg, grid in zip(drawn, expected, strict=True):
        (pixels,) = rasters(svg)
        rows, columns = grid.shape[:2]
        assert pixels.shape == (rows * (side + 1) - 1, columns * (side + 1) - 1, 3)
        for row in range(rows):
            for column in range(columns):
                top, left = row * (side + 1), column * (side + 1)
                tile = grid[row, column] if colour else grid[row, column][..., None].repeat(3, -1)
                np.testing.assert_array_equal(pixels[top : top + side, left : left + side], tile)
        assert (pixels[side :: side + 1] == 255).all() and (pixels[:, side :: side + 1] == 255).all()
        assert svg.count("image-rendering:pixelated") == 1  # nearest neighbour in the browser
    labels = re.findall(r">([^<]+)</text>", "".join(drawn))
    assert labels == [f"round {step}: {kind}" for step in (0, 200, 400, 600) for kind in kinds]


@pytest.mark.parametrize(("side", "columns"), [(8, 8), (28, 8), (32, 8), (28, 16), (8, 2)])
def test_tiles_are_readable_and_fit_the_page(folder, side, columns):
    write_pictures(folder, side, columns=columns, rows=[0])
    svg = pictures(read_pictures(read_result(folder))[0])[0]
    width = size(svg)[0] * 96 / 72
    # Three beside each other fill 980 pixels, but tiles are never smaller than 30.
    assert width == pytest.approx(columns * 30, abs=columns * 2) if columns == 16 else 189 < width < 308.1
    image = re.search(r'<image [^>]*width="(\d+)"[^>]*matrix\(([\d.]+) 0 0', svg)
    assert int(image[1]) == columns * (side + 1) - 1  # at its own resolution, scaled by the browser
    shown = float(image[2]) * 96 / 72  # pixels of the page a pixel
    assert 30 <= round(shown * side, 3) <= 56.1


def test_a_raster_by_hand():
    grid = np.arange(8, dtype=np.uint8).reshape(1, 2, 2, 2)
    np.testing.assert_array_equal(raster(grid)[..., 0], [[0, 1, 255, 4, 5], [2, 3, 255, 6, 7]])


def test_rounds_are_the_first_the_last_and_evenly_between():
    assert evenly(range(0, 1001, 50)) == [0, 350, 650, 1000]
    assert evenly([0, 10, 20, 30, 40]) == [0, 10, 30, 40]
    assert evenly([5]) == [5]
    assert evenly([0, 7, 9]) == [0, 7, 9]


def test_the_page_shows_and_explains_them(unlabelled_folder, labelled_folder, text_of):
    page = (unlabelled_folder / "report.html").read_text()
    assert re.findall(r'data-figure="pictures_(\d)"', page) == ["0", "4"]
    assert page.count('class="drawings own-size"') == 2
    told = text_of(unlabelled_folder)
    assert "Pictures" in told
    assert (
        "BiGAN, 10 nodes, silent. Taken from top to bottom after rounds 0, 200, 400 and 600 of training. "
        "Reconstructions: originals, and below each what comes back from its code. Samples: pictures made from codes "
        "drawn at random. Interpolations: each row walks from one picture's code to another's."
    ) in told
    assert "Pictures" not in text_of(labelled_folder)


def test_only_the_kinds_that_are_there_are_named():
    grid = np.zeros((2, 2, 8, 8), np.uint8)
    told = caption({1000: {"samples": grid}})
    assert told == "Taken after round 1,000 of training. Samples: pictures made from codes drawn at random."


def test_nothing_old_is_left(folder):
    def drawn():
        write_report(folder, with_figures(lambda figure: figure.section == "Pictures"))
        return sorted(path.name for path in (folder / "figures").iterdir())

    write_pictures(folder, rows=[1])
    assert drawn() == ["pictures_1.svg"]
    (folder / "pictures.npz").unlink()
    assert drawn() == []


def refused(folder) -> str:
    with pytest.raises(PalaverError) as error:
        report(read_result(folder))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("damage", [b"", b"not a zip", b"PK\x03\x04", b"\x93NUMPY\x01\x00"])
def test_a_damaged_file_is_one_line(folder, damage):
    (folder / "pictures.npz").write_bytes(damage)
    assert re.match(r"cannot read .*pictures\.npz \(.+\): run the experiment again$", refused(folder))


def test_a_file_cut_short_or_flipped_is_one_line_or_read(folder):
    write_pictures(folder, rows=[0], columns=2)
    whole = (folder / "pictures.npz").read_bytes()
    result = read_result(folder)
    random = np.random.default_rng(0)
    refusals = 0
    for _ in range(150):
        torn = bytearray(whole[: random.integers(len(whole))] if random.random() < 0.3 else whole)
        if len(torn) == len(whole):
            torn[random.integers(len(torn))] ^= 1 << int(random.integers(8))
        (folder / "pictures.npz").write_bytes(torn)
        try:
            read_pictures(result)
        except PalaverError as error:
            assert "\n" not in str(error)
            refusals += 1
    assert refusals >= 60  # of rounds that are not shown nothing is read


@pytest.mark.parametrize(
    ("key", "grid", "said"),
    [
        ("0/0/dreams", np.zeros((1, 1, 8, 8), np.uint8), r"holds '0/0/dreams': its keys are 'row/round/kind'"),
        ("9/0/samples", np.zeros((1, 1, 8, 8), np.uint8), r"holds '9/0/samples': .* the row below 6"),
        ("0/0/samples", np.zeros((1, 1, 8, 8)), r"holds float64 \[1, 1, 8, 8\] under '0/0/samples': it must be uint8"),
        ("0/0/samples", np.zeros((8, 8), np.uint8), r"holds uint8 \[8, 8\] under '0/0/samples'"),
        ("0/0/samples", np.zeros((0, 1, 8, 8), np.uint8), r"holds uint8 \[0, 1, 8, 8\]"),
        ("0/0/samples", np.array([{}], object), r"cannot read .*pictures\.npz \(0/0/samples\.npy holds Python objects"),
    ],
)  # fmt: skip
def test_what_does_not_belong_is_refused(folder, key, grid, said):
    np.savez(folder / "pictures.npz", **{key: grid})
    assert re.search(said, refused(folder))


def test_pictures_larger_than_the_memory_that_is_free_are_refused(folder, monkeypatch):
    write_pictures(folder, rows=[0])
    monkeypatch.setattr(npz, "free_memory", lambda: 1000)
    assert re.search(r"its arrays take 1\.64e-05 GB, and 1e-06 GB of memory are free", refused(folder))


def test_every_round_is_not_read(folder):
    held = write_pictures(folder, rows=[0])
    np.savez(folder / "pictures.npz", **held | {f"0/{STAGES[1]}/samples": np.zeros((1, 1, 4, 4), np.uint8)})
    assert sorted(read_pictures(read_result(folder))[0]) == [0, 200, 400, 600]
