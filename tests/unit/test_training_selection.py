"""The choice among candidates: the least score, the first of equals, each score trained once and shared."""

import math

import pytest

from shared.training import choose, end_of, tried, within

RATES = [{"rate": rate} for rate in (0.1, 0.2, 0.3)]
SCORES = {0.1: 2.0, 0.2: 1.0, 0.3: 1.5}


class Short:
    """Short runs, which note what was trained; some stop, diverge or look into their session."""

    def __init__(self, scores=None, stop_at=None):
        self.scores, self.stop_at, self.trained, self.sessions = scores or SCORES, stop_at, [], []

    def __call__(self, candidate, session):
        self.sessions.append(session)
        if candidate["rate"] == self.stop_at:
            return None
        self.trained.append(candidate["rate"])
        if self.scores[candidate["rate"]] == "diverges":
            raise FloatingPointError("training diverged in epoch 1")
        return self.scores[candidate["rate"]]


@pytest.fixture
def session(tmp_path):
    return {"checkpoint": tmp_path / ".work" / "tier" / "run.pt", "key": "spec-code"}


def test_the_least_score_wins_and_every_score_is_told():
    best, rows = choose("rates", {}, RATES, Short(), {})
    assert best == {"rate": 0.2}
    assert rows == [{"rate": 0.1, "score": 2.0}, {"rate": 0.2, "score": 1.0}, {"rate": 0.3, "score": 1.5}]


def test_of_equals_the_first_wins():
    assert choose("rates", {}, RATES, Short({0.1: 1.0, 0.2: 1.0, 0.3: 1.0}), {})[0] == {"rate": 0.1}


@pytest.mark.parametrize("bad", ["diverges", math.nan, math.inf])
def test_a_candidate_that_diverges_loses_and_is_not_trained_again(bad, session):
    short = Short({0.1: bad, 0.2: 3.0, 0.3: bad})
    for _ in range(2):
        best, rows = choose("rates", {}, RATES, short, session)
        assert best == {"rate": 0.2} and [row["score"] for row in rows] == [math.inf, 3.0, math.inf]
    assert short.trained == [0.1, 0.2, 0.3]


def test_where_all_diverge_it_says_so():
    with pytest.raises(FloatingPointError, match=r"rates: all 3 candidates diverged, from rate 0\.1 to rate 0\.3"):
        choose("rates", {}, RATES, Short(dict.fromkeys(SCORES, math.inf)), {})
    with pytest.raises(ValueError, match="rates: there are no candidates"):
        choose("rates", {}, [], Short(), {})


def test_a_stopped_choice_goes_on_with_the_candidate_it_was_at(session):
    first, second = Short(stop_at=0.2), Short()
    assert choose("rates", {}, RATES, first, session) is None
    best, _ = choose("rates", {}, RATES, second, session)
    assert (first.trained, second.trained, best) == ([0.1], [0.2, 0.3], {"rate": 0.2})
    # It is the same checkpoint with the same key, another one than the run's, and it is gone at the end.
    stopped, resumed = first.sessions[-1], second.sessions[0]
    assert stopped["checkpoint"] == resumed["checkpoint"] != session["checkpoint"]
    assert stopped["key"] == resumed["key"] != session["key"]
    assert len({s["checkpoint"] for s in first.sessions + second.sessions}) == 3


def test_the_checkpoint_of_a_finished_candidate_is_gone(session):
    def leaves_one(candidate, own):
        own["checkpoint"].parent.mkdir(parents=True, exist_ok=True)
        own["checkpoint"].write_bytes(b"state")
        return 1.0

    choose("rates", {}, RATES, leaves_one, session)
    folder = session["checkpoint"].parent.parent / "rates"
    assert len(list(folder.iterdir())) == 1


def test_runs_that_agree_share_scores_and_others_do_not(session):
    choose("rates", {"loss": "kl"}, RATES, Short(), session)
    others = {
        "another run": ({"loss": "kl"}, {**session, "checkpoint": session["checkpoint"].with_name("other.pt")}, 0),
        "another spec": ({"loss": "kl"}, {**session, "key": "other-code"}, 0),
        "another part": ({"loss": "rot"}, session, 3),
        "another code": ({"loss": "kl"}, {**session, "key": "spec-newer"}, 3),
        "nothing kept": ({"loss": "kl"}, {}, 3),
    }
    for name, (part, own, times) in others.items():
        short = Short()
        assert choose("rates", part, RATES, short, own)[0] == {"rate": 0.2}, name
        assert len(short.trained) == times, name


def test_fewer_candidates_read_the_same_scores_and_more_add_to_them(session):
    few, all_, again = Short(), Short(), Short()
    assert choose("rates", {}, RATES[::2], few, session)[0] == {"rate": 0.3}
    assert choose("rates", {}, RATES, all_, session)[0] == {"rate": 0.2}
    assert choose("rates", {}, RATES[:1], again, session)[1] == [{"rate": 0.1, "score": 2.0}]
    assert (few.trained, all_.trained, again.trained) == ([0.1, 0.3], [0.2], [])


def test_a_damaged_table_of_scores_is_made_anew(session):
    choose("rates", {}, RATES, Short(), session)
    (path,) = (session["checkpoint"].parent.parent / "rates").iterdir()
    path.write_bytes(path.read_bytes()[:50])
    short = Short()
    assert choose("rates", {}, RATES, short, session)[0] == {"rate": 0.2} and len(short.trained) == 3


def test_reports_go_from_the_start_of_a_stage_to_its_end():
    said = []
    session = {"report": lambda fraction, numbers: said.append((round(fraction, 6), numbers))}

    def short(candidate, own):
        own["report"](0.5, {"epoch": 1})
        return 1.0

    choose("rates", {}, RATES, short, within(session, 0.0, 0.6))
    assert said == [(0.1, {"epoch": 1}), (0.3, {"epoch": 1}), (0.5, {"epoch": 1})]
    assert within({"key": "k"}, 0, 1) == {"key": "k"}


def parabola(best, diverges_from=math.inf):
    """Scores with their least at `best`, in ratios; a rate of `diverges_from` or more diverges."""
    trained = []

    def score(candidate, session):
        trained.append(candidate["rate"])
        if candidate["rate"] >= diverges_from:
            raise FloatingPointError("training diverged in epoch 1")
        return abs(math.log(candidate["rate"] / best))

    score.trained = trained
    return score


@pytest.mark.parametrize(
    ("least", "diverges_from", "beyond", "best", "end"),
    [
        (0.2, math.inf, [], 0.2, 0),
        (0.05, math.inf, [0.05, 0.025], 0.05, 0),
        (0.9, math.inf, [0.8, 1.6], 0.8, 0),
        (9.0, 0.8, [0.8], 0.4, 0),
        (9.0, 0.4, [], 0.2, 0),
        (99.0, math.inf, [0.8, 1.6, 3.2], 3.2, 1),
        (1e-9, math.inf, [0.05, 0.025, 0.0125], 0.0125, -1),
    ],
)
def test_a_grid_whose_best_is_its_end_is_extended_until_it_is_inside(least, diverges_from, beyond, best, end):
    score, rates = parabola(least, diverges_from), [{"rate": rate} for rate in (0.2, 0.1, 0.4)]
    found, rows = choose("rates", {}, rates, score, {}, extend="rate")
    assert (found, score.trained) == ({"rate": best}, [0.2, 0.1, 0.4, *beyond])
    assert [row["rate"] for row in rows] == score.trained and end_of(rows, "rate") == end


def test_a_grid_of_one_or_of_divergent_candidates_is_not_extended():
    assert len(choose("rates", {}, [{"rate": 0.1}], parabola(9.0), {}, extend="rate")[1]) == 1
    with pytest.raises(FloatingPointError, match="all 3 candidates diverged"):
        choose("rates", {}, RATES, parabola(9.0, 0.0), {}, extend="rate")


def test_beyond_an_end_the_other_values_of_the_best_stay():
    grid = [{"rate": rate, "alpha": alpha} for alpha in (0.1, 0.9) for rate in (0.1, 0.2)]
    score = parabola(0.5)
    found, rows = choose("rates", {}, grid, lambda c, s: score(c, s) + (c["alpha"] == 0.1), {}, extend="rate")
    assert found == {"rate": 0.4, "alpha": 0.9}
    assert rows[4:] == [{"rate": r, "alpha": 0.9, "score": pytest.approx(abs(math.log(r / 0.5)))} for r in (0.4, 0.8)]
    assert (end_of(rows, "rate"), end_of(rows, "alpha"), end_of(rows[:4], "rate")) == (0, 0, 1)


def test_what_extends_a_grid_is_kept_and_resumed_as_the_rest(session):
    stopped, second, third = parabola(0.9), parabola(0.9), parabola(0.9)

    def stops(candidate, own):
        return None if candidate["rate"] == 1.6 else stopped(candidate, own)

    rates = [{"rate": rate} for rate in (0.2, 0.4)]
    assert choose("rates", {}, rates, stops, session, extend="rate") is None
    assert choose("rates", {}, rates, second, session, extend="rate")[0] == {"rate": 0.8}
    choose("rates", {}, rates, third, session, extend="rate")
    assert (stopped.trained, second.trained, third.trained) == ([0.2, 0.4, 0.8], [1.6], [])
    assert len(choose("rates", {}, rates, third, session)[1]) == 2


def test_a_record_keeps_what_was_tried_and_none_for_what_diverged():
    rows = choose("rates", {}, RATES, parabola(0.1, 0.3), {})[1]
    assert tried(rows) == {"tried_rate": [0.1, 0.2, 0.3], "tried_score": [0.0, pytest.approx(math.log(2)), None]}
