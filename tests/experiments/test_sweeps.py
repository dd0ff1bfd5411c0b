"""The thesis's sentences on chapter 2: their configurations exist, and verdicts follow from intervals."""

import pytest

from palaver.cli import main
from palaver.exchange.report.claims import ABSENT, FAILS, HOLDS, OPEN, Claim, checked, claims, verdict
from palaver.exchange.report.sweeps import drawn, sweeps
from palaver.experiments import EXPERIMENTS
from palaver.studies.results import read_result
from palaver.studies.statistics import interval
from tables import configurations


@pytest.mark.parametrize("scale", ["tiny", "cpu", "thesis"])
@pytest.mark.parametrize("experiment", ["sweeps", "table-2.1", "table-2.3"])
def test_every_sentence_is_about_configurations_of_its_experiment(experiment, scale):
    names = {row.name for row in configurations(experiment, scale)}
    found = claims(experiment)
    assert len(found) > 8
    for claim in found:
        paired = claim.kind in ("above", "level", "sooner")
        named = {name for pair in claim.pairs for name in pair} if paired else set(claim.each)
        assert named and named <= names, claim
        assert not (claim.each if paired else claim.pairs), claim
    assert not claims("versus") and "versus" in EXPERIMENTS


def test_every_configuration_of_the_sweeps_is_another_one():
    rows = configurations("sweeps", "cpu")
    assert len({row.name for row in rows}) == len(rows) > 100
    within = [(row.family, str(row.settings)) for row in rows]
    assert len(set(within)) == len(within)


def row(**metrics):
    return {"metrics": {name: interval(values) for name, values in metrics.items()}}


HIGH, LOW, NEAR = [0.90, 0.91, 0.92], [0.80, 0.81, 0.82], [0.901, 0.909, 0.921]
ROWS = {
    "high": row(test_collective_accuracy=HIGH, test_average_accuracy=LOW, rounds_to_target=[100.0, 110.0, 120.0]),
    "near": row(test_collective_accuracy=NEAR, test_average_accuracy=HIGH, rounds_to_target=[200.0, 220.0, 240.0]),
    "low": row(test_collective_accuracy=LOW, test_average_accuracy=LOW, rounds_to_target=[300.0, None, 330.0]),
    "never": row(rounds_to_target=[None, None, None]),
    "wide": row(
        test_collective_accuracy=[0.7, 0.9, 0.99], local_loss=[0.001, 0.002, 0.003], own_share=[0.5, 0.5, 0.51]
    ),
}


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("above", {"pairs": [("high", "low")], "by": 5}, HOLDS),
        ("above", {"pairs": [("high", "low")], "by": 15}, FAILS),
        ("above", {"pairs": [("low", "high")]}, FAILS),
        ("above", {"pairs": [("high", "wide")]}, OPEN),
        ("above", {"pairs": [("high", "low"), ("high", "wide")]}, OPEN),
        ("above", {"pairs": [("low", "high"), ("high", "wide")]}, FAILS),
        ("above", {"pairs": [("high", "low"), ("high", "nobody")]}, ABSENT),
        ("level", {"pairs": [("high", "near")], "by": 1}, HOLDS),
        ("level", {"pairs": [("high", "low")], "by": 1}, FAILS),
        ("level", {"pairs": [("high", "wide")], "by": 1}, OPEN),
        ("sooner", {"pairs": [("high", "near")], "of": "rounds", "by": 1.9}, HOLDS),
        ("sooner", {"pairs": [("high", "near")], "of": "rounds", "by": 2.1}, FAILS),
        ("sooner", {"pairs": [("high", "low")], "of": "rounds", "by": 2}, OPEN),
        ("sooner", {"pairs": [("high", "never")], "of": "rounds", "by": 4}, HOLDS),
        ("sooner", {"pairs": [("high", "never")], "of": "rounds", "by": 5}, OPEN),
        ("sooner", {"pairs": [("never", "high")], "of": "rounds", "by": 1}, FAILS),
        ("sooner", {"pairs": [("never", "high")], "of": "rounds", "by": 0.2}, OPEN),
        ("sooner", {"pairs": [("never", "nobody")], "of": "rounds", "by": 1}, ABSENT),
        ("gain", {"each": ["high"], "by": 5}, HOLDS),
        ("gain", {"each": ["near"], "by": 5}, FAILS),
        ("slight", {"each": ["near"], "by": 2}, HOLDS),
        ("slight", {"each": ["high"], "by": 2}, FAILS),
        ("is", {"each": ["wide"], "of": "own share", "value": 0.5, "by": 2}, HOLDS),
        ("is", {"each": ["wide"], "of": "own share", "value": 0.8, "by": 2}, FAILS),
        ("falls", {"each": ["wide"], "of": "local loss", "value": 0.01}, HOLDS),
        ("falls", {"each": ["wide"], "of": "local loss", "value": 0.0001}, OPEN),
        ("falls", {"each": ["high"], "of": "local loss", "value": 0.01}, ABSENT),
    ],
)
def test_verdicts(kind, given, expected):
    claim = Claim.model_validate({"where": "1", "says": "x", "kind": kind} | given)
    assert verdict(checked(claim, ROWS, dict.fromkeys(ROWS, 500.0))) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "above", "each": ["high"]},
        {"kind": "gain", "pairs": [["high", "low"]]},
        {"kind": "sooner", "pairs": [["high", "low"]]},
        {"kind": "above", "of": "rounds", "pairs": [["high", "low"]]},
        {"kind": "above", "of": "somewhat together", "pairs": [["high", "low"]]},
        {"kind": "above"},
    ],
)
def test_a_sentence_that_compares_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match="Claim"):
        Claim.model_validate({"where": "1", "says": "x"} | wrong)


def test_a_part_of_the_sweeps_says_which_sentences_hold(tmp_path, capsys):
    names = "Wrong packets: l*, τ 0.1", "Wrong packets: labels", "Listening: p_c 0.[159]"
    only = [word for name in names for word in ("--only", name)]
    assert main(["run", "sweeps", "--scale", "tiny", "--seeds", "3", *only, "--out", str(tmp_path / "run")]) == 0
    result = read_result(tmp_path / "run")
    assert [row["configuration"] for row in result.summary["rows"]] == [
        *(f"Listening: p_c {p}" for p in (0.1, 0.5, 0.9)),
        "Wrong packets: labels",
        "Wrong packets: logits, τ 0.1",
        "Wrong packets: logits, corrected, τ 0.1",
    ]
    printed = " ".join(capsys.readouterr().out.split())
    assert "sentences of the thesis" in printed and "Logits at a temperature close to zero lose to labels" in printed
    # Of the sentence on listening some configurations are missing.
    assert "Of 4 sentences of the thesis that were tested" in printed and "is best" in printed and "not run" in printed
    (sweep,) = sweeps(result)
    assert (sweep.family, sweep.setting, [x for x, _ in sweep.points]) == ("Listening", "p_consume", [0.1, 0.5, 0.9])
    assert (tmp_path / "run" / "figures" / "sweep_listening.svg").is_file()
    drawing, _ = drawn(result, sweep)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "p consume" in drawing and "p consume" in page and page.count("<figure") >= 1
