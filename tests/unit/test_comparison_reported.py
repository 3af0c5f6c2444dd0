"""reported.csv: what is read, and what is refused with file, line, column and remedy."""

import numpy as np
import pytest

from shared.comparison import claims, reported, verdicts
from shared.comparison.reported import InputError
from shared.config import repository

HEADER = "table,row,column,metric,value,spread,spread_kind,n,margin,source,selection"


def write(tmp_path, *lines, header=HEADER):
    path = tmp_path / "reported.csv"
    path.write_text("\n".join((header, *lines)) + "\n")
    return path


def test_a_full_and_a_bare_row(tmp_path):
    full, bare = reported.read_reported(
        write(tmp_path, "t1,dllp,n=16,accuracy,87.69,.54,std,5,0.5,Table 1,oracle", "t1,kl,n=1,accuracy,90,,,,,Sec 4,")
    )
    assert (full.value, full.sd, full.n, full.margin, full.selection) == (87.69, 0.54, 5, 0.5, "oracle")
    assert (bare.spread, bare.sd, bare.n, bare.margin) == (None, None, None, 1.0)
    assert (bare.spread_kind, bare.selection) == ("none", "last")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("t,r,c,accuracy,ninety,,,,,s,", "line 2, column value: 'ninety' is not a number"),
        ("t,r,c,accuracy,nan,,,,,s,", "column value: 'nan' is not a number"),
        ("t,r,c,accuracy,,,,,,s,", "column value: '' must not be empty"),
        ("t,r,c,accuracy,90,,,,,,", "column source: '' must not be empty"),
        ("t,r,c,accuracy,90,.5,sd,5,,s,", "column spread_kind: 'sd' is not one of std, sem, ci95"),
        ("t,r,c,accuracy,90,,std,5,,s,", "column spread: '' must be the std"),
        ("t,r,c,accuracy,90,.5,none,5,,s,", "column spread: '.5' has no meaning"),
        ("t,r,c,accuracy,90,-1,std,5,,s,", "column spread: '-1' is negative"),
        ("t,r,c,accuracy,90,.5,std,2.5,,s,", "column n: '2.5' is not a number of runs"),
        ("t,r,c,accuracy,90,.5,std,1,,s,", "column n: '1' is one run"),
        ("t,r,c,accuracy,90,.5,std,5,0,s,", "column margin: '0' must be above zero"),
        ("t,r,c,entropy,.8,,,,,s,", "column margin: '' must be given: only accuracy has a default"),
        ("t,r,c,accuracy,90,,,,,s,best", "column selection: 'best' is not one of last"),
        ("t,r,c,accuracy,90,,,,,s, a, b,", "13 fields, not 11"),
    ],
)
def test_refused(tmp_path, row, message):
    path = write(tmp_path, row)
    with pytest.raises(InputError) as error:
        reported.read_reported(path)
    assert str(error.value).startswith(f"{path}, line 2")
    assert message in str(error.value)


def test_header_duplicates_and_absence(tmp_path):
    with pytest.raises(InputError, match="line 1: the header must be"):
        reported.read_reported(write(tmp_path, header="table,row"))
    with pytest.raises(InputError, match="line 3: the same cell is on line 2"):
        reported.read_reported(write(tmp_path, *["t,r,c,accuracy,90,,,,,s,"] * 2))
    with pytest.raises(InputError, match="no such file"):
        reported.read_reported(tmp_path / "none.csv")


@pytest.mark.parametrize("path", sorted((repository() / "papers").glob("*/reported.csv")), ids=lambda p: p.parent.name)
def test_every_paper_s_own(path):
    reported.read_reported(path)
    claims.read_claims(path.with_name("claims.yaml"))


@pytest.mark.parametrize("paper", ["ece", "mle_llp", "plot", "rot", "vp_dsd"])
def test_a_paper_s_own_numbers_found_again_are_judged(paper):
    """Of 173 numbers 117 could not be, whatever was found: 28 of ece, 8 of mle_llp, 2 of rot, 79 of vp_dsd."""
    for cell in reported.read_reported(repository() / "papers" / paper / "reported.csv"):
        far = 5 * cell.margin * (-1 if cell.spread_kind == "lower_bound" else 1)
        scatter = np.array([-0.02, 0.01, 0.01, -0.01, 0.01]) * cell.margin
        found, other = (verdicts.judge_cell(cell.value + shift + scatter, cell).verdict for shift in (0, far))
        wide = "INCONCLUSIVE" if (cell.sd or 0) > 1.04 * cell.margin else "REPRODUCED"  # of five runs of the paper
        wanted = ("CONSISTENT", "INCONSISTENT") if cell.unknown else (wide, "NOT REPRODUCED")
        assert (found, other) == wanted, cell
