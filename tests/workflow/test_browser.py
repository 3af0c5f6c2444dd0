"""The page of a tier in a real browser: what a reader clicks works, and nothing is fetched."""

import csv
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from shared.config import papers_of
from shared.report import page

ROOT = Path(__file__).parents[2]
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BROWSER, reason="no chromium on PATH (Debian: apt install chromium)"),
]
VOID = {"meta", "link", "img", "input", "br", "hr"}


class Rows(HTMLParser):
    """Collect the rows of claims and numbers: {id or place: (verdict, hidden, text)}."""

    def __init__(self, text):
        super().__init__()
        self.rows, self._open = [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "tr" and attrs.get("class") == "row":
            self._open = [attrs.get("id", ""), attrs["data-verdict"], "hidden" in attrs, ""]

    def handle_data(self, data):
        if self._open:
            self._open[3] += data

    def handle_endtag(self, tag):
        if tag == "tr" and self._open:
            self.rows.append(tuple(self._open))
            self._open = None


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(page.page("quick"), encoding="utf-8")
    return path


def opened(path, address=""):
    """The document as the browser has it once scripts have run; what it says on the console fails the test."""
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    command += ["--virtual-time-budget=4000", f"--user-data-dir={path.parent / 'profile'}", f"{path.as_uri()}{address}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    return done.stdout


def of_csv(name):
    folder = ROOT / "results" / "quick"
    return {paper: list(csv.DictReader((folder / paper / name).open())) for paper in papers_of("quick")}


def test_every_verdict_and_number_stands_on_the_page_as_in_its_csv(built):
    source = opened(built)
    rows = Rows(source).rows
    claims = {f"{paper}/{row['id']}": row for paper, found in of_csv("claims.csv").items() for row in found}
    shown = {name: (verdict, text) for name, verdict, hidden, text in rows if name and not hidden}
    assert shown.keys() == claims.keys()
    for name, (_, text) in shown.items():
        for column in ("verdict", "says", "control_verdict"):
            assert claims[name][column] in text, (name, column)
        estimate = page.with_interval(claims[name], page.ESTIMATE)
        assert page.with_interval(claims[name], page.ESTIMATE, 3) in text and f'title="{estimate}"' in source, name
    cells = [cell for found in of_csv("comparison.csv").values() for cell in found]
    numbers = [text for name, _, _, text in rows if not name]
    assert len(numbers) == len(cells)
    for text, cell in zip(numbers, cells, strict=True):
        assert all(cell[column] in text for column in ("reported", "verdict")) and page.rounded(cell["ours"], 4) in text
        difference = page.with_interval(cell, page.DIFFERENCE)
        assert page.with_interval(cell, page.DIFFERENCE, 3) in text and f'title="{difference}"' in source


def test_an_address_filters_by_paper_verdict_and_role(built):
    rows = Rows(opened(built, "#?paper=rot&verdict=INCONCLUSIVE&role=control")).rows
    wanted = [
        f"rot/{row['id']}"
        for row in of_csv("claims.csv")["rot"]
        if row["verdict"] == "INCONCLUSIVE" and row["role"] == "control"
    ]
    assert wanted and [name for name, _, hidden, _ in rows if not hidden] == wanted


def test_an_address_of_a_claim_opens_its_records_and_the_command_that_remakes_them(built):
    text = opened(built, "#rot/bag-losses-alike")
    item = text[text.index('id="rot/bag-losses-alike"') :]
    item = item[: item.index("</tr>")]
    assert re.search(r"<details open=\"\"><summary>why, and records", item)
    assert "rot/cifar10/kl/bag4/seed0" in item and "left, accuracy, last" in item


def test_nothing_is_asked_of_the_network(built):
    text = built.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"(?!data:|#)", text) and "@import" not in text
    # In figures, which are percent-encoded, too.
    assert not re.search(r"(src|href)=%22(?!data:|%23)", text) and not re.search(r"url\((?!%23)", text)
