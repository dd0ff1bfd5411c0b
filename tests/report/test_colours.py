"""Colours are told apart from the ground, light and dark, by the contrast of WCAG 2."""

import pytest

from palaver.report.colours import SERIES, SHADES


def contrast(one: str, other: str) -> float:
    lights = []
    for colour in (one, other):
        shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares)
        lights.append(0.2126 * red + 0.7152 * green + 0.0722 * blue)
    low, high = sorted(lights)
    return (high + 0.05) / (low + 0.05)


def test_the_contrast_by_hand():
    assert contrast("#000000", "#ffffff") == 21
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=1e-3)


@pytest.mark.parametrize("ground", ["light", "dark"])
def test_every_colour_stands_out(ground):
    shades = {name: getattr(shade, ground) for name, shade in SHADES.items()}
    for name in (*SERIES, "link", "shadow"):
        assert contrast(shades[name], shades["back"]) >= 3, name
    for text, on in (("ink", "back"), ("ink", "card"), ("soft", "back"), ("warn-ink", "warn")):
        assert contrast(shades[text], shades[on]) >= 4.5, text


def test_no_two_names_have_the_same_colour():
    assert len({shade.light for shade in SHADES.values()}) == len(SHADES)
