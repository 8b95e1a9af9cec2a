"""What the README says, runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(*command, cwd):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippets_run(number, tmp_path):
    run(sys.executable, "-W", "error::UserWarning", "-c", SNIPPETS[number], cwd=tmp_path)


def test_there_are_snippets_and_the_pictures_exist():
    assert len(SNIPPETS) >= 2
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / picture).stat().st_size > 1000


def test_the_make_targets_exist():
    targets = re.findall(r"^make (\w+)", README, re.MULTILINE)
    assert targets == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text()
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_commands_have_the_options_that_the_readme_uses(tmp_path):
    for command in re.findall(r"^mbrl-gym (\w+)(.*)$", README, re.MULTILINE):
        name, arguments = command
        usage = run(sys.executable, "-m", "mbrl_gym", name, "--help", cwd=tmp_path)
        for option in re.findall(r"--\w+", arguments):
            assert option in usage


def test_the_comparison_quotes_its_results():
    """Every number of the README's table stands in the committed results."""
    table = (ROOT / "docs/results/core.md").read_text()
    assert table.strip() in README
