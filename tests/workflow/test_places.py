"""Places that a checkout, its data and a call of Snakemake may be in: each works, or is refused in one sentence."""

import shutil

import pytest

from tests.workflow.house import build, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(6000)]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A checkout without .git, as of a downloaded archive, in a folder with spaces and letters that are not ASCII."""
    house = build(tmp_path_factory.mktemp("places") / "mit Lücke ä")
    shutil.rmtree(house / ".git")
    return house


def test_it_is_planned_from_elsewhere_without_git_and_in_any_folder(house, tmp_path):
    places = {"LLP_DATA": str(tmp_path / "dätä x"), "LLP_MIRROR": str(tmp_path / "Spiegel é")}
    where = ["-s", str(house / "Snakefile"), "rot", "--cores", "1", "--quiet", "host"]
    said = run(["snakemake", *where, "-n"], tmp_path, PYTHONPATH=str(house), **places)
    assert "rot_train" in said and str(tmp_path / "dätä x") in said and "Traceback" not in said
    assert not any(tmp_path.iterdir()) and (house / ".work/smoke/rot/gone.txt").exists()


def test_another_working_folder_is_refused_before_anything_is_planned(house, tmp_path):
    said = run(["snakemake", "rot", "--cores", "1", "-n", "--directory", str(tmp_path)], house, status=1)
    assert f"call Snakemake without --directory: the workflow runs in {house}" in said and "Job stats" not in said
