"""Reading back what tables publish."""

from pathlib import Path


def markdown(path: Path) -> list[dict[str, str]]:
    """The rows of a markdown table, each {column: cell}."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("|")]
    head, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [dict(zip(head, row, strict=True)) for row in rows[1:]]
