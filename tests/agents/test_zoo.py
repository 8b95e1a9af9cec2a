"""The algorithms in RL Baselines3 Zoo, in processes of their own: rl_zoo3 changes Gymnasium when it is imported."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mbrl_gym.agents import MPC

PAGE = (Path(__file__).parents[2] / "docs" / "rl_zoo.md").read_text()

needs_zoo = pytest.mark.skipif(importlib.util.find_spec("rl_zoo3") is None, reason="needs rl_zoo3")

HYPERPARAMETERS = """
default:
  policy: {policy}
  n_timesteps: 60
  learning_starts: 20
  model: linear
  {more}
"""


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def test_without_the_zoo_the_extra_is_named(tmp_path: Path) -> None:
    code = "import sys; sys.modules['rl_zoo3'] = None; import mbrl_gym.agents.zoo"
    done = run("-c", code, cwd=tmp_path)
    assert done.returncode == 1
    assert 'MissingPackageError: this needs rl_zoo3: pip install "mbrl-gym[zoo]"' in done.stderr


@needs_zoo
def test_all_algorithms_are_registered_and_told_of(tmp_path: Path) -> None:
    code = """
import rl_zoo3
before = set(rl_zoo3.ALGOS)
import mbrl_gym.agents.zoo as zoo
from mbrl_gym.agents.benchmark.algorithms import OURS
assert not before & set(zoo.ZOO)
assert set(rl_zoo3.ALGOS) == before | set(zoo.ZOO)
assert {kind.__name__ for kind in zoo.ZOO.values()} == set(OURS)
assert all(hasattr(zoo, name) for name in zoo.__all__)
print(*zoo.ZOO)
"""
    done = run("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(re.findall(r"`(\w+)`[,| ]", PAGE)) >= set(done.stdout.split())
    done = run("-m", "mbrl_gym.agents.zoo", "plot", cwd=tmp_path)
    assert done.returncode == 1
    assert "{train,enjoy}" in done.stderr


@needs_zoo
@pytest.mark.parametrize(
    ("algorithm", "env_id", "policy", "more"),
    [
        ("mpc", "mbrl/Drift-v0", "iCEM", "planner_kwargs: {horizon: 2, population: 8}"),
        ("mbpo", "mbrl/Drift-v0", "MlpPolicy", "learning_rate: 0.001\n  rollout_batch: 20\n  gradient_steps: 1"),
    ],
)
def test_the_zoo_trains_and_shows(algorithm: str, env_id: str, policy: str, more: str, tmp_path: Path) -> None:
    (tmp_path / "settings.yml").write_text(HYPERPARAMETERS.format(policy=policy, more=more))
    common = ("--algo", algorithm, "--env", env_id, "-f", "logs", "--seed", "0")
    train = ("-m", "mbrl_gym.agents.zoo", "train", *common, "-conf", "settings.yml")
    done = run(*train, "--eval-freq", "30", "--eval-episodes", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Eval num_timesteps=60" in done.stdout
    folder = tmp_path / "logs" / algorithm / "mbrl-Drift-v0_1"
    assert (folder / "evaluations.npz").exists()
    if algorithm == "mpc":
        assert MPC.load(folder / "mbrl-Drift-v0.zip").world_model.fitted
    done = run("-m", "mbrl_gym.agents.zoo", "enjoy", *common, "--no-render", "-n", "110", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Episode Length 100" in done.stdout
    again = run(*train, "-n", "30", "-i", str(folder / "mbrl-Drift-v0.zip"), cwd=tmp_path)
    assert again.returncode == 0, again.stderr


@needs_zoo
def test_the_commands_of_the_page_run(tmp_path: Path) -> None:
    """With a few steps only."""
    (settings,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "mpc.yml").write_text(settings)
    commands: list[Any] = re.findall(r"^python (-m .*)$", PAGE, re.MULTILINE)
    assert [command.split()[2] for command in commands] == ["train", "enjoy"]
    few = {"train": ["-n", "260", "--eval-episodes", "1", "-params", "learning_starts:20"], "enjoy": ["-n", "2"]}
    for command in commands:
        done = run(*command.split(), *few[command.split()[2]], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
