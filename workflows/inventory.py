"""List what this repository stands on, from the lock, the installed packages' metadata and data/sources.csv.

`--licences` writes docs/licences.md, `--sbom FILE` a bill of materials in CycloneDX's JSON. Neither asks a network.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from shared.datasets.catalogue import read_sources
from shared.files import write_text

ROOT = Path(__file__).resolve().parent.parent
LOCK, PAGE = ROOT / "requirements" / "lock.txt", ROOT / "docs" / "licences.md"
ELSEWHERE = "not installed on this system"
# What asks for more than that its notice is kept.
DEMANDING = re.compile(r"GPL|General Public|EPL|Eclipse|MPL|Mozilla|Proprietary|NVIDIA|CUDA|not stated", re.IGNORECASE)

PAGE_TEXT = """# Licences of what is installed and fetched

Made by `make sbom` from what the packages of requirements/lock.txt and data/sources.csv say of themselves. Our code is
MIT (LICENSE, NOTICE); none of what is listed is copied into this repository. This is no legal advice.

## To look at twice

They ask for more than that their notice is kept, or say nothing. Only `papers/ece/detection` imports ultralytics.

{look}

## Packages

| package | version | licence |
|---|---|---|
{packages}

## Data

| set | licence | from |
|---|---|---|
{data}
"""


@dataclass(frozen=True)
class Package:
    """A package of the lock, with its licence in words, and as an expression of SPDX where it says one."""

    name: str
    version: str
    licence: str
    expression: str = ""


@functools.cache
def packages() -> tuple[Package, ...]:
    """Return the packages of the lock, by name; of one that no row of it installs here the licence is not known."""
    text = re.sub(r"#.*", "", LOCK.read_text(encoding="utf-8")).replace("\\\n", " ")
    rows = [Requirement(line.split("--hash=")[0]) for line in text.splitlines() if line.strip()]
    return tuple(Package(row.name, str(row.specifier).removeprefix("=="), *licence_of(row.name)) for row in rows)


def licence_of(name: str) -> tuple[str, str]:
    """Return what an installed package's metadata say of its licence, in words and as an expression or ""."""
    try:
        said = metadata.metadata(name).json
    except metadata.PackageNotFoundError:
        return ELSEWHERE, ""
    if expression := str(said.get("license_expression", "")):
        return expression, expression
    kinds = [kind.split(" :: ")[-1] for kind in said.get("classifier", []) if kind.startswith("License ::")]
    words = " ".join(str(said.get("license", "")).split())
    whole_text = len(words) > 60
    return (words if words and not whole_text else ", ".join(kinds)) or "not stated in its metadata", ""


def page() -> str:
    """Return docs/licences.md."""
    found, sets = packages(), read_sources()
    look = sorted({f"- `{one.name}` ({one.licence})" for one in found if DEMANDING.search(one.licence)})
    rows = (f"| {one.name} | {one.version} | {one.licence.replace('|', 'or')} |" for one in found)
    pages = {name: next((way.url for way in ways if way.url), ways[0].how) for name, ways in sets.items()}
    data = (f"| {name} | {ways[0].licence or 'not known'} | {pages[name]} |" for name, ways in sets.items())
    return PAGE_TEXT.format(look="\n".join(look), packages="\n".join(rows), data="\n".join(data))


def bill() -> dict:
    """Return the bill of materials of the environment that the lock makes, CycloneDX 1.6."""
    components = {}
    for package in packages():
        link = f"pkg:pypi/{package.name}@{package.version}"
        named = {"expression": package.expression} if package.expression else {"license": {"name": package.licence}}
        component = {"type": "library", "bom-ref": link, "name": package.name, "version": package.version}
        components[link] = component | {"purl": link, "licenses": [named]}
    for name, (way, *_) in read_sources().items():
        component = {"type": "data", "bom-ref": f"data:{name}", "name": name, "version": way.version}
        components[name] = component | {"licenses": [{"license": {"name": way.licence or "not known"}}]}
    own = {"type": "application", "bom-ref": "bagwise", "name": "bagwise", "licenses": [{"license": {"id": "MIT"}}]}
    head = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "metadata": {"component": own}}
    return head | {"components": list(components.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--licences", action="store_true", help="write docs/licences.md")
    parser.add_argument("--sbom", type=Path, metavar="FILE", help="write the bill of materials")
    arguments = parser.parse_args()
    if arguments.licences:
        write_text(PAGE, page())
    if arguments.sbom:
        write_text(arguments.sbom, json.dumps(bill(), indent=1) + "\n")
        print(f"{arguments.sbom}: {len(bill()['components'])} components")


if __name__ == "__main__":
    main()
