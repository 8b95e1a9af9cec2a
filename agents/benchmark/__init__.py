"""Benchmarks: planning agents and Stable-Baselines3's own, on the same episodes."""

from .compare import Job, make_jobs, run_jobs
from .evaluation import Evaluation, RandomPolicy, Reference, reference
from .film import Player, check_drawable, make_film_env, play, shows_plans, write_best_gif, write_gif
from .plots import plot_learning_curves
from .records import Run, load_run
from .run import run
from .settings import AGENTS, check_agent, check_env, load_agent, make_agent
from .table import Spread, Summary, render, summarize, write_curves, write_results

__all__ = [
    "AGENTS",
    "Evaluation",
    "Job",
    "Player",
    "RandomPolicy",
    "Reference",
    "Run",
    "Spread",
    "Summary",
    "check_agent",
    "check_drawable",
    "check_env",
    "load_agent",
    "load_run",
    "make_agent",
    "make_film_env",
    "make_jobs",
    "play",
    "plot_learning_curves",
    "reference",
    "render",
    "run",
    "run_jobs",
    "shows_plans",
    "summarize",
    "write_best_gif",
    "write_curves",
    "write_gif",
    "write_results",
]
