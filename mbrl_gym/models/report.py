"""What a judged model's figures are, and how they read."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["HorizonError", "ModelReport"]


@dataclass(frozen=True)
class HorizonError:
    """Errors of observations that were predicted some steps ahead, beside those of "nothing changes".

    A figure is NaN where there is nothing to measure: no window, no choice, no column that varies.
    """

    horizon: int  # steps ahead
    windows: int  # from which the errors were measured
    error: float  # mean, over columns that vary, of the mean squared error over the column's variance in the data
    baseline: float  # the same for "nothing changes"
    misclassified: float  # share of the choices that were predicted wrongly
    baseline_misclassified: float
    rmse: tuple[float, ...]  # [F] of every feature column, in its own unit; NaN for choices
    baseline_rmse: tuple[float, ...]  # [F]

    @property
    def ratio(self) -> float:
        """Squared error relative to the baseline's; below 1 is better than nothing."""
        return self.error / self.baseline if self.baseline > 0 else math.nan


@dataclass(frozen=True)
class ModelReport:
    """What `evaluate_model` found; figures are NaN where there is nothing to measure."""

    transitions: int
    terminations: int  # among them
    horizons: tuple[HorizonError, ...]
    nll: float  # mean negative log likelihood of a step's targets [nats], in the data's units
    baseline_nll: float
    levels: tuple[float, ...]  # [L] probabilities of central intervals
    coverage: tuple[float, ...]  # [L] shares of the targets that lay in them
    column_coverage: tuple[tuple[float, ...], ...]  # [L] for each of the D target columns
    calibration_error: float  # mean over the levels of |coverage - level|
    classification_error: float  # expected calibration error of choices
    reward_rmse: float
    baseline_reward_rmse: float  # of the mean reward
    missed_terminations: float  # share of the terminations that the model held for no likelier than on average
    false_terminations: float  # share of the other steps that it held for likelier

    @property
    def balanced_accuracy(self) -> float:
        """Of termination, where it is likelier than on average; that of "never" is 0.5."""
        return 1 - (self.missed_terminations + self.false_terminations) / 2

    def as_dict(self) -> dict[str, float]:
        """Return all figures that are defined, by flat names, for loggers."""
        figures: dict[str, float] = {}
        for at in self.horizons:
            for name in ("error", "ratio", "misclassified"):
                figures[f"{name}_{at.horizon}"] = getattr(at, name)
        for level, share in zip(self.levels, self.coverage, strict=True):
            figures[f"coverage_{100 * level:g}"] = share
        for name in ("nll", "baseline_nll", "calibration_error", "classification_error", "reward_rmse"):
            figures[name] = getattr(self, name)
        for name in ("baseline_reward_rmse", "missed_terminations", "false_terminations", "balanced_accuracy"):
            figures[name] = getattr(self, name)
        return {name: value for name, value in figures.items() if not math.isnan(value)}

    def table(self) -> str:
        """Return the figures that are defined as two Markdown tables."""
        return "\n".join([*self._horizon_table(), "", *self._one_step_table()])

    def _horizon_table(self) -> list[str]:
        columns = {"error": "error", "baseline": "nothing changes", "ratio": "ratio"}
        if any(not math.isnan(at.misclassified) for at in self.horizons):
            choices = {"misclassified": "wrong choices", "baseline_misclassified": "nothing changes"}
            continuous = any(not math.isnan(at.error) for at in self.horizons)
            columns = {**(columns if continuous else {}), **choices}
        rows = [
            " | ".join([f"| {at.horizon} | {at.windows:,}", *(_cell(getattr(at, name)) for name in columns)])
            for at in self.horizons
        ]
        heading = " | ".join(["| steps ahead | windows", *columns.values()])
        return [f"{heading} |", "|---|---" + len(columns) * "|---" + "|", *(f"{row} |" for row in rows)]

    def _one_step_table(self) -> list[str]:
        ninety = min(range(len(self.levels)), key=lambda i: abs(self.levels[i] - 0.9))
        rows = (
            ("negative log likelihood [nats]", self.nll, self.baseline_nll),
            ("calibration error", self.calibration_error, math.nan),
            (f"coverage of {100 * self.levels[ninety]:g}% intervals", self.coverage[ninety], math.nan),
            ("calibration error of choices", self.classification_error, math.nan),
            ("RMSE of the reward", self.reward_rmse, self.baseline_reward_rmse),
            ("balanced accuracy of termination", self.balanced_accuracy, 0.5),
        )
        lines = [f"| {name} | {_cell(own)} | {_cell(other)} |" for name, own, other in rows if not math.isnan(own)]
        return ["| one step ahead | model | baseline |", "|---|---|---|", *lines]


def _cell(figure: float) -> str:
    return "-" if math.isnan(figure) else f"{figure:.3g}"
