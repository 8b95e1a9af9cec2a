"""The report of a benchmark as one HTML page that needs no other file."""

from __future__ import annotations

import base64
import io
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from .figures import curve_figure, profiles_figure, scores_figure, styles
from .findings import Collection, Group, facts
from .markdown import introduction, settings_lines, tables, troubles
from .pictures import FILM, MODEL

__all__ = ["page"]


def page(collection: Collection) -> str:
    """Return the page."""
    looks = styles(collection.agents)
    sections = []
    for title, content in tables(collection) if collection.groups else []:
        groups = collection.of(title)
        section: dict[str, Any] = {
            "title": title,
            "anchor": "".join(letter if letter.isalnum() else "-" for letter in title),
            "tables": content,
            "films": [],
            "models": [],
            "pictures": _pictures(collection, groups, looks),
        }
        for group in groups:
            for kind, name in (("films", FILM), ("models", MODEL)):
                files = [run.folder / name for run in group.runs if (run.folder / name).exists()]
                section[kind] += [(group.agent, _file(file)) for file in files[:1]]
        sections.append(section)
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(resources.files(__package__).joinpath("page.html").read_text())
    return template.render(
        introduction=introduction(collection) if collection.groups else "There is no finished run.",
        sections=sections,
        failures=collection.failures,
        troubles=troubles(collection),
        settings=settings_lines(collection),
        facts="; ".join(facts(collection)) + ".",
    )


def _pictures(collection: Collection, groups: list[Group], looks: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what pictures show, and the pictures: of an environment, or of all if there are no groups."""
    if groups:
        return [
            ("scores against environment steps", _figure(curve_figure(groups, "steps", looks))),
            ("scores against training time", _figure(curve_figure(groups, "seconds", looks))),
        ]
    return [
        ("scores at the end of training", _figure(scores_figure(collection, looks))),
        ("performance profiles", _figure(profiles_figure(collection, looks))),
    ]


def _figure(figure: Figure) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return _embedded(content.getvalue(), "image/png")


def _file(path: Path) -> str:
    return _embedded(path.read_bytes(), "image/gif" if path.suffix == ".gif" else "image/png")


def _embedded(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
