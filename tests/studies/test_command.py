"""The command of a plan: quoted, and with a flag for whatever is not the default."""

import shlex

import pytest

from palaver.studies.command import run_command


@pytest.mark.parametrize(
    ("given", "flags"),
    [
        ({"overrides": {"widths": (8, 16), "batch_size": 4}}, ["--widths", "8", "16", "--batch-size", "4"]),
        ({"overrides": {"projection": True, "rate": 1e-05}}, ["--projection", "--rate", "1e-05"]),
        ({"overrides": {"projection": False}}, ["--no-projection"]),
        ({"overrides": {"data": "npz:/my data/x.npz"}}, ["--data", "npz:/my data/x.npz"]),
        ({"overrides": {"widths": []}}, ["--widths"]),
        ({"only": ["10 nodes, *", "it's"]}, ["--only", "10 nodes, *", "--only", "it's"]),
        ({"devices": 2}, ["--devices", "2"]),
    ],
)
def test_a_shell_takes_the_command_apart_again(given, flags):
    command = run_command("collective", "tiny", [0, 1, 2], **{"overrides": {}, **given})
    assert "\n" not in command
    assert shlex.split(command) == ["palaver", "run", "collective", "--scale", "tiny", "--seeds", "3", *flags]


def test_seeds_that_do_not_begin_at_zero():
    command = run_command("collective", "cpu", [7], {})
    assert command == "palaver run collective --scale cpu --seeds 1 --first-seed 7"
