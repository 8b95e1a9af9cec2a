"""What the README says, runs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RUNS = [("mine,MPC", 0), ("mine,MPC", 900), ("theirs,PPO", 0), ("theirs,PPO", 800), ("theirs,PPO", 1000)]
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


def publish(root, *arguments):
    command = [sys.executable, str(root / "benchmarks/publish.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_the_published_benchmark_is_what_its_files_hold():
    done = publish(ROOT, "--check")
    assert done.returncode == 0, done.stderr


def test_a_number_that_is_not_in_the_files_is_noticed(tmp_path):
    results = tmp_path / "docs/results/bench"
    for folder in (results, tmp_path / "benchmarks"):
        folder.mkdir(parents=True)
    shutil.copy(ROOT / "README.md", tmp_path)
    shutil.copy(ROOT / "benchmarks/publish.py", tmp_path / "benchmarks")
    columns = "environment,agent,algorithm,seed,steps,seconds,mean_return,std_return,decision_ms,score,"
    rows = [f"Some-v0,{agent},0,{steps},{steps / 10},{steps / 100 - 10},0,1,," for agent, steps in RUNS]
    ends = [f"{row}-10,0" for row in rows]
    (results / "Some-v0.csv").write_text("\n".join([f"{columns}random_return,optimal_return", *ends]) + "\n")
    assert publish(tmp_path).returncode == 0
    text = (tmp_path / "README.md").read_text()
    assert "| Some-v0 | mine | 900 | 1,000 (1.11 times) | - | 90.0 | 100 (1.11 times) | - |" in text
    (tmp_path / "README.md").write_text(text.replace("1,000 (1.11 times)", "2,000 (2.22 times)"))
    done = publish(tmp_path, "--check")
    assert done.returncode == 1
    assert "README.md" in done.stderr
