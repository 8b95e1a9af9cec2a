"""Every example runs at small size, draws its picture, is short, and uses public names; the path tells of each."""

import ast
import importlib
import re
import runpy
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
PATH = (FOLDER / "README.md").read_text()
matplotlib.use("Agg")

NO_PICTURE = {"any_environment.py", "dream.py", "mbpo.py"}  # they end in a return


def names_of(path):
    """Yield the (module, name) pairs that a script imports from this package."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mbrl_gym"):
            for alias in node.names:
                yield node.module, alias.name


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run_and_draw(script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    draws = script.name not in NO_PICTURE
    picture = tmp_path / "picture.png"
    monkeypatch.setattr(sys, "argv", [str(script), "--small", *(["--out", str(picture)] if draws else [])])
    threads, random_state, numpy_state = torch.get_num_threads(), torch.get_rng_state(), np.random.get_state()
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        plt.close("all")
        torch.set_num_threads(threads)
        torch.set_rng_state(random_state)
        np.random.set_state(numpy_state)
    assert capsys.readouterr().out.strip()
    for drawn in tmp_path.glob("picture.*"):
        with Image.open(drawn) as image:
            pixels = np.asarray(image.convert("RGB"))
        assert min(pixels.shape[:2]) >= 300
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20  # more than an empty frame
    assert picture.exists() == draws


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_short_and_public(script):
    assert len(script.read_text().splitlines()) < 60
    for module, name in names_of(script):
        assert not re.search(r"(^|\.)_", f"{module}.{name}")
        assert name in importlib.import_module(module).__all__


def test_the_path_tells_of_every_example_and_its_picture():
    for script in EXAMPLES:
        assert f"]({script.name})" in PATH
        assert f"Run: python examples/{script.name}" in script.read_text()
        if script.name not in NO_PICTURE:
            assert f"Draws {script.stem}." in script.read_text()
    assert set(re.findall(r"\]\((\w+\.py)\)", PATH)) == {script.name for script in EXAMPLES}
