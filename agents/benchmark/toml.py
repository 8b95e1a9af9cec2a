"""Settings as TOML, which Python's standard library reads and does not write."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from .suite import Entry, Suite

__all__ = ["toml_of", "value_of"]


def toml_of(suite: Suite, entry: Entry) -> str:
    """Return a file of settings with one agent; what is at its default is left out, and the reference where stored."""
    lines = [f"env_id = {value_of(suite.env_id)}", f"episodes = {suite.episodes}"]
    lines += [f"{name} = {value_of(getattr(suite, name))}" for name in ("env", "reference") if getattr(suite, name)]
    lines += ["", f"[agents.{_key(entry.name)}]"]
    for each in fields(Entry):
        value = getattr(entry, each.name)
        if each.name not in ("name", "settings") and value not in ("", {}) and value != each.default:
            lines.append(f"{each.name} = {value_of(value)}")
    lines += [f"[agents.{_key(entry.name)}.settings]"]
    lines += [f"{_key(name)} = {value_of(value)}" for name, value in entry.settings.items()]
    return "\n".join(lines) + "\n"


def value_of(value: Any) -> str:
    """Return a JSON value as TOML has it, on one line."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(name)} = {value_of(each)}" for name, each in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(value_of(each) for each in value)}]"
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)
