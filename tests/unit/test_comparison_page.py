"""What a comparison writes: counts first, reasons once, claims with their controls, what has not converged."""

import pytest

from tests.made_paper import CLAIMS, CONFIG, KL, PAPER, ROT, build, change, fill, page_of, written


@pytest.fixture
def house(tmp_path, monkeypatch):
    return build(tmp_path, monkeypatch)


def test_a_page_opens_with_how_many_are_judged_and_says_each_reason_once(house):
    change(house, PAPER, f"{PAPER}    differs: 2 of 9 epochs; half of the images\n")
    for bag_size in (4, 8):
        fill(house, {"kl": KL}, bag_size=bag_size)
    house("made", "--tier", "paper")
    page = page_of(house)
    assert page.index("| judged | 0 |  |\n| NOT COMPARABLE | 2 | a, b |\n| NOT RUN | 1 | c |") < 200
    for letter, reason in zip("abc", ("half of the images", "2 of 9 epochs", "not in the plan"), strict=True):
        assert page.count(reason) == 1 and f"- **{letter}** " in page
    assert page.count("| NOT COMPARABLE | a, b |") == 2 and page.count("| NOT RUN | c |") == 1


def test_numbers_judged_are_counted_by_verdict_and_what_several_share_is_a_footnote(house):
    fill(house, {"kl": KL})
    fill(house, {"kl": [value - 10.1 for value in KL]}, bag_size=8)
    house("made", "--tier", "paper")
    page = page_of(house)
    assert "| judged | 2 | REPRODUCED 2 |" in page
    assert page.count("normal theory, n = 3") == 1 and page.count("lies inside the margin of 1; b |") == 2


WITH_CONTROL = f"""{CLAIMS}  control: alone
- id: alone
  says: So does KL at bags of 8.
  source: ours
  kind: greater
  where: {{bag_size: 8}}
  left: {{method: kl}}
  right: {{method: rot}}
  role: control
"""


def test_a_claim_whose_control_holds_too_says_so_and_shows_the_control_and_p(house, capsys):
    (house.paper / "claims.yaml").write_text(WITH_CONTROL)
    change(house, "seed: [0, 1, 2]", "seed: [0, 1, 2, 3, 4]")
    kl, rot = [*KL, 80.2, 79.8], [*ROT, 75.2, 74.9]
    for bag_size in (4, 8):
        fill(house, {"kl": kl, "rot": rot}, bag_size=bag_size)
    house("made", "--tier", "paper")
    first, control = written(house, "claims.csv")
    assert (first["verdict"], first["control_verdict"], control["control_verdict"]) == ("HOLDS", "HOLDS", "")
    assert float(first["p"]) == 0.5**5 and (first["bh"], control["bh"]) == ("yes", "yes")
    page = page_of(house)
    assert (
        "| order | HOLDS, and so does its control | 4.9 [" in page
        and "| 0.031* | 5 | 1/1 | alone: HOLDS | paper |" in page
    )
    assert "| HOLDS, and so does its control | 1 | 0 | 0 |" in page and "over the 2 claims tested" in page
    assert "HOLDS, and so does its control  order" in capsys.readouterr().out
    fill(house, {"kl": rot, "rot": kl}, bag_size=8)
    house("made", "--tier", "paper")
    assert "| order | HOLDS | 4.9 [" in page_of(house) and "| alone: CONTRADICTED |" in page_of(house)


def test_benjamini_hochberg_marks_what_many_tests_leave(house):
    """Three seeds can say p = .125 without an assumption, so that no verdict on them is marked."""
    fill(house, {"kl": KL, "rot": ROT})
    house("made", "--tier", "paper")
    (claim,) = written(house, "claims.csv")
    assert (claim["verdict"], claim["p"], claim["bh"]) == ("HOLDS", "0.125", "no")
    assert claim["why"].endswith("normal theory, n = 3") and "| 0.12 | 3 |" in page_of(house)


def test_seeds_that_share_a_split_are_counted_by_split(house):
    change(house, "seed: [0, 1, 2]", "seed: [0, 1, 2, 3, 4, 5]")
    fill(house, {"kl": [*KL, *KL], "rot": [*ROT, *ROT]}, cluster=lambda seed: f"split {seed % 3}")
    house("made", "--tier", "paper")
    (claim,) = written(house, "claims.csv")
    assert (claim["seeds"], claim["clusters"]) == ("6", "3") and "| 6 / 3 |" in page_of(house)
    assert (written(house)[0]["n"], written(house)[0]["seeds"]) == ("3", "6") and "n=3 (6 seeds)" in page_of(house)


def course(gain):
    return {"convergence": {"accuracy": {"gain": gain, "error": 0.01, "epochs": 2}}}


def test_what_still_moves_is_said_and_decides_nothing(house, capsys):
    fill(house, {"kl": KL, "rot": ROT}, **course(3.0))
    house("made", "--tier", "paper")
    assert "6 of 6 runs still moved by more than a point" in page_of(house)
    cell, (claim,) = written(house)[0], written(house, "claims.csv")
    assert cell["verdict"] == claim["verdict"] == "INCONCLUSIVE"
    assert cell["why"].startswith("not converged: kl gains 1.5") and "not converged: rot gains 1.5" in claim["why"]
    fill(house, {"kl": KL, "rot": ROT}, **course(0.3))
    house("made", "--tier", "paper")
    assert "0 of 6 runs still moved" in page_of(house) and written(house)[0]["verdict"] == "REPRODUCED"
    assert written(house, "claims.csv")[0]["verdict"] == "HOLDS"


def test_cells_that_the_paper_tier_alone_plans_are_counted_not_missed(house):
    """The grid of the claim has bags of 4 and 8; quick plans 4, of which rot is not trained, and no plan has 16."""
    text = CONFIG.replace("quick: *all", "quick: {experiments: [{name: a, grid: {loss: [kl, rot], seed: [0, 1]}}]}")
    (house.paper / "config.yaml").write_text(text)
    grid = "  cells: [bag_size]\n  where: {bag_size: [4, 8, 16]}"
    (house.paper / "claims.yaml").write_text(CLAIMS.replace("  where: {bag_size: 4}", grid))
    fill(house, {"kl": KL[:2]}, tier="quick")
    house("made")
    (claim,) = written(house, "claims.csv", "quick")
    assert (claim["verdict"], claim["missing"], claim["unplanned"]) == ("NOT RUN", "bag_size=4", "1")
    assert "| 1 missing, 1 unplanned |" in page_of(house, "quick")
