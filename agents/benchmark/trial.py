"""One run of a benchmark: trained, evaluated at fixed steps, and resumed where it was broken off."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import time
import traceback
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecNormalize

import mbrl_gym
from mbrl_gym.errors import DamagedFileError
from mbrl_gym.models.saved import storable

from .algorithms import algorithm_of, arguments_of, is_ours, step_seconds, training_env
from .checkpoints import (
    Checkpoint,
    CheckpointCallback,
    Measurements,
    ProgressFile,
    Tell,
    clean,
    latest_checkpoint,
    restore_logger,
)
from .evaluation import EVALUATION_SEED, Evaluation, evaluated
from .pictures import draw_film, draw_model
from .records import Run, discard_run, read_run, replacing, save_run
from .run import even_marks, versions, warm_up
from .stopwatch import PARTS, Stopwatch, splitting
from .suite import Entry, Suite, describe_entry, make_entry

__all__ = ["FAILURE", "Failure", "Trial", "attempt", "make_trials", "run_trial", "state_of"]

EVALUATIONS, FAILURE, NORMALISATION, PROGRESS = "evaluations.npz", "failure.txt", "normalization.npz", "progress.csv"


@dataclass(frozen=True)
class Trial:
    """A run to be done."""

    suite: Suite
    entry: Entry
    seed: int
    folder: Path
    checkpoint_seconds: float = 60.0  # between checkpoints, at least [s]
    pictures: bool = False  # whether to film the agent and to draw how good its model is
    evaluation_seed: int = EVALUATION_SEED  # another one evaluates in other episodes than those of `mbrl_gym.score`

    @property
    def name(self) -> str:
        """What users call it."""
        return f"{self.suite.env_id}, {self.entry.name}, seed {self.seed}"

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """All that decides the result, as JSON values."""
        return {**describe_entry(self.suite, self.entry, self.seed), "evaluation_seed": self.evaluation_seed}

    @property
    def seconds(self) -> float:
        """A rough estimate of its training time [s]."""
        return self.entry.steps * step_seconds(self.entry.algorithm)


@dataclass(frozen=True)
class Failure:
    """A run that raised."""

    trial: Trial
    error: str  # one line
    traceback: str


def make_trials(
    suites: list[Suite], seeds: int, folder: Path, checkpoint_seconds: float = 60.0, pictures: bool = False
) -> list[Trial]:
    """Return a run for every agent and seed, each with a folder ENVIRONMENT/AGENT-SEED of its own.

    Pictures are made of those with seed 0.
    """
    return [
        Trial(
            suite,
            entry,
            seed,
            folder / place_of(suite.env_id) / f"{entry.name}-{seed}",
            checkpoint_seconds,
            pictures and seed == 0,
        )
        for suite in suites
        for entry in suite.agents
        for seed in range(seeds)
    ]


def place_of(env_id: str) -> str:
    """Return the name of an environment's folder."""
    return env_id.replace("/", "-").replace(":", "-")


def state_of(trial: Trial) -> tuple[Run | None, str]:
    """Return the finished run in a trial's folder, or None and what is there instead ("" where nothing is)."""
    try:
        run, content = read_run(trial.folder)
    except FileNotFoundError:
        return None, ""
    except (DamagedFileError, OSError) as error:
        return None, str(error)
    if content["settings"] != trial.settings:
        return None, f"{trial.folder} holds a run of other settings"
    return run, ""


def attempt(trial: Trial) -> Run | Failure:
    """Do a run; if it raises, write the traceback to its folder and return the failure."""
    try:
        return run_trial(trial)
    except Exception as error:
        text = traceback.format_exc()
        with replacing(trial.folder / FAILURE) as path:
            path.write_text(text)
        lines = str(error).strip().splitlines() or [""]
        return Failure(trial, f"{type(error).__name__}: {lines[0]}", text)


def run_trial(trial: Trial, tell: Tell | None = None) -> Run:
    """Do a run, or what is left of it, or return the one that its folder holds already.

    `tell` is called after each evaluation, with what all evaluations have found so far.

    The folder gets `agent.zip`, `curve.csv`, `evaluations.npz` (as Stable-Baselines3's `EvalCallback` writes it),
    `progress.csv` (as its logger does) and at last `run.json`, with all settings, versions, and where the time went.
    """
    finished, _ = state_of(trial)
    if finished is not None:
        return finished
    begin = time.time()
    discard_run(trial.folder)
    trial.folder.mkdir(parents=True, exist_ok=True)
    clean(trial.folder, checkpoints=False)
    (trial.folder / FAILURE).unlink(missing_ok=True)
    scored = trial.evaluation_seed == EVALUATION_SEED
    evaluation = Evaluation(
        trial.suite.env_id, trial.suite.episodes, scored=scored, seed=trial.evaluation_seed, **trial.suite.env
    )
    with closing(evaluation):
        agent, checkpoint = _agent(trial)
        try:
            done = _train(trial, agent, evaluation, checkpoint, begin, tell)
        finally:
            agent.env.close()  # type: ignore[union-attr]
    clean(trial.folder, checkpoints=True)
    if trial.pictures:
        draw_film(trial.suite.env_id, dict(trial.suite.env), evaluated(agent), trial.folder)
        draw_model(trial.suite.env_id, dict(trial.suite.env), agent, trial.folder, trial.name)
    return done


def _agent(trial: Trial) -> tuple[BaseAlgorithm, Checkpoint | None]:
    """Return the agent of the newest checkpoint of the same settings and versions, or a new one."""
    marker = trial.folder / "settings.json"
    checkpoint, _ = latest_checkpoint(trial.folder)
    if checkpoint is not None and marker.exists() and marker.read_text() == _text(trial):
        return _load(trial, checkpoint.agent), checkpoint
    clean(trial.folder, checkpoints=True)
    with replacing(marker) as path:
        path.write_text(_text(trial))
    return make_entry(trial.suite, trial.entry, trial.seed), None


def _text(trial: Trial) -> str:
    return json.dumps({"settings": trial.settings, "versions": _versions()}, indent=2)


def _versions() -> dict[str, Any]:
    return {**versions(), "git revision": revision()}


def _load(trial: Trial, path: Path) -> BaseAlgorithm:
    suite, entry = trial.suite, trial.entry
    gamma = entry.settings.get("gamma", 0.99)
    env = training_env(suite.env_id, {**suite.env, **entry.env}, entry.n_envs, entry.normalize, gamma)
    arguments = arguments_of(entry.settings, env.action_space)
    again = {name: value for name, value in arguments.items() if not storable(value)}
    return algorithm_of(entry.algorithm).load(path, env, device="cpu", **again)


def _train(
    trial: Trial,
    agent: BaseAlgorithm,
    evaluation: Evaluation,
    checkpoint: Checkpoint | None,
    begin: float,
    tell: Tell | None,
) -> Run:
    """Train and evaluate, and write the files."""
    entry = trial.entry
    watch = Stopwatch(None if checkpoint is None else checkpoint.split)
    measurements = Measurements(evaluation, even_marks(entry.steps, entry.evaluations), watch, tell)
    progress = ProgressFile(trial.folder / PROGRESS, "" if checkpoint is None else checkpoint.progress)
    logger = Logger(str(trial.folder), [progress])
    agent.set_logger(logger)
    callbacks: list[BaseCallback] = [measurements]
    resumed = 0 if checkpoint is None else checkpoint.resumed + 1
    if is_ours(entry.algorithm):
        callbacks.append(CheckpointCallback(trial.folder, trial.checkpoint_seconds, measurements, progress, resumed))
    if checkpoint is not None:
        measurements.restore(checkpoint)
        restore_logger(logger, checkpoint.pending)
    warm_up()
    with splitting(agent, watch):
        agent.learn(
            entry.steps - agent.num_timesteps,
            callback=callbacks,
            log_interval=1,
            reset_num_timesteps=checkpoint is None,
        )
    if logger.name_to_value:
        logger.record("time/total_timesteps", agent.num_timesteps)
        logger.dump(agent.num_timesteps)
    run = Run.of(
        entry.name,
        trial.seed,
        trial.folder,
        measurements.rows,
        evaluation.decision_ms(evaluated(agent)),
    )
    files = _write_more(trial.folder, agent, measurements)
    split = {part: watch.seconds[part] for part in PARTS}
    split["other"] = max(0.0, float(run.seconds[-1]) - sum(split.values()))
    save_run(
        run,
        agent,
        trial.settings,
        _versions(),
        files,
        seconds=split,
        evaluation_seconds=watch.seconds.get("evaluate", 0.0),
        resumed=resumed,
        started=begin,
    )
    return run


def _write_more(folder: Path, agent: BaseAlgorithm, measurements: Measurements) -> list[str]:
    """Write the files beside those of every run, and return their names."""
    files = [PROGRESS, EVALUATIONS]
    with replacing(folder / EVALUATIONS) as path:
        np.savez(path, **measurements.arrays())
    normalisation = agent.get_vec_normalize_env()
    if isinstance(normalisation, VecNormalize):
        files.append(NORMALISATION)
        moments: Any = normalisation.obs_rms
        with replacing(folder / NORMALISATION) as path:
            np.savez(
                path,
                mean=moments.mean,
                var=moments.var,
                epsilon=normalisation.epsilon,
                clip=normalisation.clip_obs,
            )
    return files


@functools.cache
def revision() -> str | None:
    """Return the git revision of this package, with "+" if files were changed; None where it is not in git."""
    git, source = shutil.which("git"), Path(mbrl_gym.__file__)
    if git is None:
        return None

    def ask(*arguments: str) -> str | None:
        done = subprocess.run([git, "-C", str(source.parent), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    if ask("ls-files", "--error-unmatch", source.name) is None:  # installed within somebody's repository, maybe
        return None
    head, changed = ask("rev-parse", "HEAD"), ask("status", "--porcelain", "--untracked-files=no")
    return None if head is None else f"{head}{'+' if changed else ''}"
