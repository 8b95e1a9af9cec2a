"""Bandit algorithms as recurrent policies, and what they lose against the law."""

from .algorithms import MOSS, UCB1, UCBV, EpsilonGreedy, ExploreThenCommit, GradientBandit, UCBTuned
from .families import KLUCB, BayesUCB, ThompsonSampling
from .forgetting import DiscountedUCB, SlidingWindowUCB
from .policy import BanditPolicy
from .registry import BANDITS, make_algorithm, parse_algorithms, parse_settings
from .simulation import BanditRun, run_bandit
from .statistics import BanditAlgorithm, Statistics

__all__ = [
    "BANDITS",
    "KLUCB",
    "MOSS",
    "UCB1",
    "UCBV",
    "BanditAlgorithm",
    "BanditPolicy",
    "BanditRun",
    "BayesUCB",
    "DiscountedUCB",
    "EpsilonGreedy",
    "ExploreThenCommit",
    "GradientBandit",
    "SlidingWindowUCB",
    "Statistics",
    "ThompsonSampling",
    "UCBTuned",
    "make_algorithm",
    "parse_algorithms",
    "parse_settings",
    "run_bandit",
]
