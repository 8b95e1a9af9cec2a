"""The report of a benchmark, from the folders of its runs alone."""

from __future__ import annotations

from pathlib import Path

from .findings import collect
from .markdown import markdown
from .page import page
from .published import csv_text
from .records import replacing

__all__ = ["write_report"]


def write_report(folder: Path, csv: Path | None = None) -> tuple[list[Path], str]:
    """Write `report.md`, `report.html` and `runs.csv` beside the runs.

    Args:
        folder: That of a benchmark.
        csv: Another file for what `runs.csv` holds.

    Returns:
        The files, and the text of the Markdown report.
    """
    collection = collect(folder)
    text = markdown(collection)
    contents = {"report.md": text, "report.html": page(collection), "runs.csv": csv_text(collection)}
    for name, content in contents.items():
        with replacing(folder / name) as path:
            path.write_text(content)
    if csv is not None:
        with replacing(csv) as path:
            path.write_text(contents["runs.csv"])
    return [folder / name for name in contents], text
