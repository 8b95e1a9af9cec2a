"""Bandit algorithms as recurrent policies, and what they lose against the law."""

from .algorithms import (
    KLUCB,
    MOSS,
    UCB1,
    UCBV,
    BayesUCB,
    EpsilonGreedy,
    ExploreThenCommit,
    GradientBandit,
    ThompsonSampling,
    UCBTuned,
)
from .forgetting import DiscountedUCB, SlidingWindowUCB
from .policy import BANDITS, BanditPolicy, make_algorithm, parse_algorithms, parse_settings
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
