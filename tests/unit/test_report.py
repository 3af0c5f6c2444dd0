"""What a reader sees first: answers made from verdicts, and the page that holds everything of a tier."""

import json
import re

import pytest

from shared.comparison.claims import DECIDED
from shared.report import answer, found, page, words
from shared.runs import verified
from tests.made_paper import CLAIMS, KL, ROT, build, change, fill, written

ASKED = CLAIMS.replace("  source", "  question: Is KL better than ROT?\n  source")
OUTPUTS = """
tables:
  t1: {title: Table 1, caption: All.}
figures: {}
metrics: {}
"""


@pytest.fixture
def house(tmp_path, monkeypatch):
    house = build(tmp_path, monkeypatch)
    (house.paper / "claims.yaml").write_text(ASKED)
    (house.paper / "outputs.yaml").write_text(OUTPUTS)
    (house.paper / "README.md").write_text(
        f"# A made paper\n\nNobody, 2026.\n\n{answer.BEGIN}\nold\n{answer.END}\nafter\n"
    )
    return house


def judge(house, runs, tier="paper", **more):
    fill(house, runs, tier, **more)
    house("made", "--tier", tier)
    return found.everything(house.results, house.root)


def readme(house):
    return answer.texts(house.root, house.results)[house.paper / "README.md"]


def test_a_question_is_answered_by_its_verdict_with_the_number_the_csv_has(house):
    judge(house, {"kl": KL, "rot": ROT})
    (row,) = written(house, "claims.csv")
    text = readme(house)
    assert "Is KL better than ROT? | **Yes** |" in text and f"{float(row['estimate']):.3g} [" in text
    assert "claimed above 0; 3 seeds | [paper](../../results/paper/made/comparison.md#order) |" in text
    assert '<a id="order"></a>**order.** ' in (house.results / "paper/made/comparison.md").read_text()
    assert text.endswith(f"{answer.END}\nafter\n") and "old" not in text and text.startswith("# A made paper")


def test_a_claim_that_the_prose_names_has_its_verdict_and_number_beside_it(house):
    """Sentences by hand stay as they were when records change."""
    judge(house, {"kl": KL, "rot": ROT})
    (row,) = written(house, "claims.csv")
    assert "claim named below" not in readme(house)
    path = house.paper / "README.md"
    path.write_text(path.read_text() + f"It is far above (`{row['id']}`), says `no-claim` of `{row['id']}`.\n")
    inside = readme(house).partition(answer.END)[0]
    assert inside.count(f"| `{row['id']}` | {row['verdict']}, ") == 1 and "no-claim" not in inside
    assert f"{float(row['estimate']):.3g} [{float(row['low90']):.3g}, " in inside.partition("claim named below")[2]
    path.write_text(readme(house))
    assert readme(house) == path.read_text()


def test_what_is_measured_has_words_of_its_own(house):
    """ "difference in class_accuracy" does not say which of two methods is the better."""
    (house.paper / "claims.yaml").write_text(ASKED.replace("  source", "  quantity: KL's less ROT's, points\n  source"))
    ((claim,),) = judge(house, {"kl": KL, "rot": ROT}).values()
    assert words.in_numbers(claim).startswith("KL's less ROT's, points: 4.87 [")


def test_an_answer_over_several_comparisons_says_where_it_fails_most(house):
    over = "where: {bag_size: [4, 8]}\n  cells: [bag_size]"
    (house.paper / "claims.yaml").write_text(ASKED.replace("where: {bag_size: 4}", over))
    fill(house, {"kl": ROT, "rot": KL}, bag_size=8)
    ((claim,),) = judge(house, {"kl": KL, "rot": ROT}).values()
    text = words.in_numbers(claim)
    assert words.answer(claim) == "No" and "] on average; claimed above 0; shown in 1 of 2 comparisons, " in text
    assert "comparisons, farthest from it in bag_size=8: -4.87 [" in text


def test_the_front_page_says_how_many_reported_numbers_were_judged(house):
    (house.root / "README.md").write_text(f"{answer.BEGIN}\n{answer.END}\n")
    judge(house, {"kl": KL, "rot": ROT})
    (house.results / "paper/made/claims.svg").write_text("<svg/>")
    text = answer.texts(house.root, house.results)[house.root / "README.md"]
    assert "\n\n![The claims of made, tier paper](results/paper/made/claims.svg)\n" in text
    assert "Of 3 numbers that the papers report 1 were judged (1 REPRODUCED): 0 have" in text
    assert "and 2 were not run" in text


def test_a_contradicted_claim_is_no_and_the_sharpest_is_named(house):
    everything = judge(house, {"kl": ROT, "rot": KL})
    (claims,) = everything.values()
    assert words.answer(claims[0]) == "No" and found.sharpest(claims) is claims[0] and claims[0].distance > 1
    text = answer.texts(house.root, house.results)[house.results / "README.md"]
    assert "“KL beats ROT” is CONTRADICTED (Section 4): difference in accuracy: -4.87 [-5.29, -4.44]; claimed" in text


def test_what_was_trained_again_is_told_and_when_its_records_have_changed_since(house):
    judge(house, {"kl": KL, "rot": ROT})
    top, paper = house.results / "README.md", house.paper.name
    assert "Nothing yet: `python -m shared.runs.verify" in answer.texts(house.root, house.results)[top]
    row = {"records": 6, "code": "c"} | dict(zip(verified.COUNTS, (3, 0, 1, 0), strict=True))
    verified.write_verified(house.results / "paper", {paper: row}, {"commit": "0123456789", "dirty": False})
    text = answer.texts(house.root, house.results)[top]
    assert f"| {paper} | paper | 6 | 4 | 3 | 1 elsewhere | " in text and "changed since" not in text
    index = house.results / "paper" / paper / "runs" / "index.csv"
    index.write_text("id\n")
    assert "**the records have changed since**" in answer.texts(house.root, house.results)[top]


@pytest.mark.parametrize(
    ("verdict", "says"),
    [("HOLDS", "Alike"), ("CONTRADICTED", "No"), ("INCONCLUSIVE", "Undecided"), ("NOT RUN", "Not run")],
)
def test_an_answer_has_words_of_its_own_and_says_where_it_was_made(house, verdict, says):
    (house.paper / "claims.yaml").write_text(ASKED.replace("  source", "  answers: {holds: Alike}\n  source"))
    ((claim,),) = judge(house, {"kl": KL, "rot": ROT}).values()
    claim.row.update(verdict=f"{verdict} on a stand-in", setting="on a stand-in")
    decided = verdict in DECIDED
    assert words.answer(claim) == (f"{says}, on a stand-in" if decided else says)


@pytest.mark.parametrize(
    ("why", "says"),
    [
        ("not converged: rot gains 0.2 of accuracy an epoch", ": runs still move"),
        ("the difference above 0 shown in 1 of 2; about 3 more seeds would decide it", ": more seeds are needed"),
        (
            "the difference above 0 shown in 1 of 2; no number of seeds up to 1000 would decide it",
            ": too close to tell",
        ),
        ("no ratio: a side is 0 in 5 of 5 seeds", ""),
    ],
)
def test_what_is_undecided_says_what_keeps_it_from_being_decided(house, why, says):
    """Beside "8.6 [7.9, 9.3], claimed above 0" a bare Undecided is a riddle."""
    ((claim,),) = judge(house, {"kl": KL, "rot": ROT}).values()
    claim.row.update(verdict="INCONCLUSIVE", why=why)
    assert words.answer(claim) == f"Undecided{says}"


@pytest.mark.parametrize(
    ("absent", "says"),
    [
        ("dataset=tissue_sim, method=ce; dataset=tissue_sim, method=ece", " (not those on tissue_sim, a simulation)"),
        ("dataset=tnbc", " (not those on tnbc)"),
        ("bag_size=8", ""),
    ],
)
def test_a_part_of_a_claims_comparisons_says_on_which_sets_the_others_are(house, absent, says):
    ((claim,),) = judge(house, {"kl": KL, "rot": ROT}).values()
    claim.row.update(compared="1", named="2", absent=absent)
    assert f"judged in 1 of the claim's 2 comparisons{says}; 3 seeds" in words.in_numbers(claim)


def test_a_tier_with_more_seeds_answers_before_one_with_fewer_and_smoke_never_does(house):
    judge(house, {"kl": KL[:1], "rot": ROT[:1]}, "paper")
    judge(house, {"kl": KL, "rot": ROT}, "quick")
    (house.results / "smoke" / "made").mkdir(parents=True)
    (house.results / "smoke" / "made" / "claims.csv").write_text("")
    everything = found.everything(house.results, house.root)
    assert sorted(everything) == [("made", "paper"), ("made", "quick")]
    (best,) = found.questions([one for claims in everything.values() for one in claims])
    assert best.tier == "quick" and best.verdict == "HOLDS"
    (line,) = [line for line in answer.overview(everything, house.results).splitlines() if line.startswith("| [made]")]
    page = "made/comparison.md#order"
    assert f"[quick](../results/quick/{page}); [paper](../results/paper/{page}): INCON" in line


def test_more_seeds_that_decide_nothing_answer_before_fewer_that_do(house):
    judge(house, {"kl": [80.1, 74.0, 77.0], "rot": ROT}, "paper")
    judge(house, {"kl": KL[:2], "rot": ROT[:2]}, "quick")
    both = [one for claims in found.everything(house.results, house.root).values() for one in claims]
    (best,) = found.questions(both)
    assert {one.tier: one.verdict for one in both} == {"paper": "INCONCLUSIVE", "quick": "HOLDS"}
    assert best.tier == "paper" and words.in_short(both[1]).startswith("HOLDS, 4.")


FIVE_SEEDS = "  {}: {{experiments: [{{name: a, grid: {{loss: [kl, rot], seed: [0, 1, 2, 3, 4]}}}}]}}"
OVER = ASKED.replace("where: {bag_size: 4}", "where: {bag_size: [4, 8]}\n  cells: [bag_size]")


def test_a_tier_that_judged_the_whole_claim_answers_before_one_that_judged_a_part(house):
    """Two tiers with as many seeds: the front page said Yes from 1 of 3 comparisons where all 3 decide nothing."""
    (house.paper / "claims.yaml").write_text(OVER)
    change(house, "  quick: *all", FIVE_SEEDS.format("quick"))
    fill(house, {"kl": [80.1, 74.0, 77.0], "rot": ROT}, bag_size=8)
    judge(house, {"kl": KL, "rot": ROT}, "paper")
    everything = judge(house, {"kl": [*KL, 80.2, 80.1], "rot": [*ROT, 75.2, 75.1]}, "quick")
    both = {one.tier: one for claims in everything.values() for one in claims}
    (best,) = found.questions(list(both.values()))
    assert {tier: (one.verdict, *one.coverage) for tier, one in both.items()} == {
        "paper": ("INCONCLUSIVE", 2, 2),
        "quick": ("HOLDS", 1, 2),
    }
    assert best.tier == "paper" and written(house, "claims.csv", "quick")[0]["absent"] == "bag_size=8"
    assert "Not planned in this tier: bag_size=8." in page.page("quick", house.results, house.root)
    assert words.in_short(both["quick"]).endswith(", in 1 of 2 comparisons")
    assert "; judged in 1 of the claim's 2 comparisons; 5 seeds" in words.in_numbers(both["quick"])
    assert "judged in" not in words.in_numbers(best)


@pytest.mark.parametrize("aggregate", ["every", "mean"])
def test_what_a_tier_lacks_and_what_the_paper_alone_plans_count_as_not_judged(house, aggregate):
    """A grid that the claim does not list is as large as the paper's own tier makes it, also under a mean."""
    (house.paper / "claims.yaml").write_text(
        ASKED.replace("where: {bag_size: 4}", f"cells: [bag_size]\n  aggregate: {aggregate}")
    )
    judge(house, {"kl": KL, "rot": ROT}, "paper")
    change(house, "  quick: *all", "  quick: {experiments: [{name: a, grid: {loss: [kl, rot], seed: [0, 1, 2]}}]}")
    everything = judge(house, {"kl": KL, "rot": ROT}, "quick")
    assert [one.coverage for claims in everything.values() for one in claims] == [(1, 2), (1, 2)]


def test_a_number_that_two_tiers_judged_counts_with_the_verdict_of_more_seeds(house):
    """The front page counted 1 REPRODUCED, from two seeds, where ten say NOT REPRODUCED."""
    change(house, "  paper: &all", "  quick: &all")
    change(house, "  quick: *all", FIVE_SEEDS.format("paper"))
    judge(house, {"kl": KL[:2]}, "quick")
    everything = judge(house, {"kl": [value - 4 for value in [*KL, 80.1, 79.9]]}, "paper")
    verdicts = {tier: written(house, tier=tier)[0]["verdict"] for tier in ("quick", "paper")}
    assert verdicts == {"quick": "REPRODUCED", "paper": "NOT REPRODUCED"}
    (text,) = answer.reported_numbers(everything, house.results)
    assert text.startswith("Of 3 numbers that the papers report 1 were judged (1 NOT REPRODUCED): 0 have")


def test_files_that_are_not_what_the_verdicts_say_are_named_and_made_anew(house, monkeypatch, capsys):
    judge(house, {"kl": KL, "rot": ROT})
    monkeypatch.setattr(answer, "repository", lambda: house.root)
    assert answer.main(["--check"]) == 1 and not (house.results / "README.md").exists()
    assert "papers/made/README.md is not what the verdicts say" in capsys.readouterr().err
    assert answer.main([]) == 0 and answer.main(["--check"]) == 0
    assert "| made | paper | 1 REPRODUCED | 0 | 2 | 1 | 0 | 0 | 0 |" in (house.results / "README.md").read_text()
    (house.paper / "claims.yaml").write_text(ASKED.replace("kind: greater", "kind: grater"))
    assert answer.main([]) == 2 and "claims.yaml, claim 1 (order), key kind: 'grater'" in capsys.readouterr().err


def test_the_page_holds_every_number_with_the_records_behind_it(house):
    judge(house, {"kl": KL, "rot": ROT})
    folder = house.results / "paper" / "made"
    (folder / "t1.md").write_text("# Table 1\n\n| a |\n|---|\n| <script>x</script> |\n")
    html = page.page("paper", house.results, house.root)
    for row in [*written(house), *written(house, "claims.csv")]:
        for column in ("reported", "ours", "difference", "estimate", "low90", "high95", "verdict"):
            assert row.get(column, "") in html
    assert "&lt;script&gt;x" in html and html.count("<script") == 2 and "http:" not in html and "https:" not in html
    known = json.loads(re.search(r'id="evidence">(.*?)</script>', html, re.DOTALL)[1])["made"]
    assert set(known["runs"]) == {f"made/toy/{m}/bag4/seed{s}" for m in ("kl", "rot") for s in range(3)}
    loss = [known["values"]["loss"][place] for place in known["which"]["loss"]]
    assert loss == [run_id.split("/")[2] for run_id in known["runs"]]
    assert len(set(known["which"]["record sha256"])) == 6 and known["values"]["device"] == ["cpu"]
    behind = json.loads((folder / "behind.json").read_text())
    (sides,) = behind["claims"]["order"].values()
    left = [behind["runs"][place] for place in sides["left, accuracy, last"]]
    assert left == [f"made/toy/kl/bag4/seed{seed}" for seed in range(3)]


def test_a_paper_without_results_is_on_the_page_as_one_without_verdicts(house):
    html = page.page("quick", house.results, house.root)
    assert "A made paper" in html and 'class="row"' not in html
