"""Counts and Dirichlet posteriors for environments of finitely many observations and actions."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models.base import (
    DynamicsFn,
    FitReport,
    Outcome,
    Prediction,
    RewardFn,
    TerminationFn,
    Transitions,
    WorldModel,
    as_tensor,
    check,
)
from mbrl_gym.models.counts import Tables, TransitionCounts, deviation
from mbrl_gym.models.dirichlet import DirichletPosterior, StepMoments
from mbrl_gym.models.spaces import Numbering
from mbrl_gym.noise import Noise, NoiseSizes

__all__ = ["TabularModel"]

MOST_TRIPLES = 2**62  # (observation, action, next observation), numbered by 64-bit integers
MOST_DRAWN = 10_000_000  # probabilities of a posterior draw: about a gigabyte while it is made


class TabularModel(WorldModel):
    """Counts n(s, a, s') with a Dirichlet posterior over the next observation of every (observation, action).

    Given n(s, a) visits, the next observation is s' with probability (n(s, a, s') + prior / M) / (n(s, a) + prior):
    the posterior predictive of a symmetric Dirichlet prior over M observations that weighs as much as `prior` visits.
    The default of one visit in all, 1 / M each, is Perks' (1947) and what Berger, Bernardo and Sun (2015), "Overall
    objective priors", Bayesian Analysis 10(1), recommend for many choices; one visit each (Laplace) would drown
    the few choices that occur. For planning, `prior` says how much the model believes what it has seen: a step that
    occurred n times the same way is predicted so with probability of about n / (n + prior).

    Rewards are means for (s, a, s'), terminations frequencies for (s, a, s'). Where (s, a) never led to s', they are
    the mean reward for (s, a), or of everything if it never occurred, and the frequency at which entering s'
    ended an episode, or 0 if nothing did enter it. Without noise the most frequent next observation follows (of
    several the first), and an action that was never tried leaves everything as it is.

    Only what occurred is stored: memory does not grow with the number of observations and actions.

    Args:
        observation_space: `Discrete`, `MultiDiscrete`, or a `Dict` or `Tuple` of these.
        action_space: `Discrete` or `MultiDiscrete`.
        dynamics_fn: Exact next observation, in place of the learned one.
        reward_fn: Exact reward, in place of the learned one.
        termination_fn: Exact termination, in place of the learned one.
        prior: Weight of the prior of each (observation, action) [visits].
        prior_over: The M observations that are possible at first: "all" of the space, or those "seen" in the data,
            for spaces of which only a part can be reached.

    Raises:
        UnsupportedSpaceError: Continuous observations or actions, or too many of them to be numbered.
        InvalidSettingError: A setting out of its range.
    """

    noise_sizes = NoiseSizes(uniform=2)  # next observation, end of the episode

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        dynamics_fn: DynamicsFn | None = None,
        reward_fn: RewardFn | None = None,
        termination_fn: TerminationFn | None = None,
        prior: float = 1.0,
        prior_over: str = "all",
    ) -> None:
        super().__init__(observation_space, action_space, reward_fn=reward_fn, termination_fn=termination_fn)
        self._check_choices()
        check(0 < prior < float("inf"), "prior", prior, "a number of visits greater than 0")
        check(prior_over in ("all", "seen"), "prior_over", prior_over, '"all" or "seen"')
        self.arguments = {
            "dynamics_fn": dynamics_fn,
            "reward_fn": reward_fn,
            "termination_fn": termination_fn,
            "prior": prior,
            "prior_over": prior_over,
        }
        self.dynamics_fn = dynamics_fn
        self.prior, self.prior_over = prior, prior_over
        self.states, self.actions = Numbering(observation_space), Numbering(action_space)
        if self.states.count**2 * self.actions.count > MOST_TRIPLES:
            raise UnsupportedSpaceError(
                f"TabularModel numbers at most 2^62 (observation, action, next observation), but {observation_space} "
                f"has {self.states.count} values and {action_space} {self.actions.count}: discretise more coarsely"
            )
        self.table = TransitionCounts(self.states.count, self.actions.count)
        self._latest: DirichletPosterior | None = None

    @property
    def terminates(self) -> bool:
        """Whether a termination function was given, or the data held a termination."""
        return self.termination_fn is not None or (self.fitted and self.table.tables().ever_ends)

    @property
    def fitted(self) -> bool:
        """Whether the model has seen a step."""
        return len(self.table.codes) > 0

    def start(self, observation: Tensor, particles: int = 1) -> Tensor:
        """Return the observations of the particles `[P, N]` or `[P, N, K]`."""
        self.check_particles(particles)
        encode = self.encode_observation
        observation = observation.long() if encode.chooses else observation.to(encode.dtype)
        if observation.ndim == 2 + len(encode.event_shape):
            return observation
        return observation.expand(particles, *observation.shape)

    def step(self, state: Tensor, action: Tensor, noise: Noise | None = None) -> Prediction:
        """Predict one step; noise draws the next observation and the end of the episode."""
        posterior = self._posterior()
        action = self.over_particles(action, state.shape[0])
        pair = self._pair(state, action)
        if self.dynamics_fn is not None:
            following = self.dynamics_fn(state, action)
        elif noise is None:
            following = self.states.rows(posterior.most_probable(pair, self.states.number(state)))
        else:
            following = self.states.rows(posterior.sample(pair, noise.uniform[..., 0]))
        reward, _, end = posterior.step(pair, self.states.number(following))
        if self.reward_fn is None:
            reward = reward.to(self.encode_observation.dtype)
        else:
            reward = self.reward_fn(state, action, following)
        if self.termination_fn is None:
            terminated = end > (0.5 if noise is None else noise.uniform[..., 1])
        else:
            terminated = self.termination_fn(following)
        return Prediction(following, following, reward, terminated)

    def fit(self, transitions: Transitions) -> FitReport:
        """Forget everything and count all transitions.

        Raises:
            InvalidSettingError: No transitions, values outside the spaces, or rewards that are not finite.
        """
        return self._count(transitions, anew=True)

    def update(self, transitions: Transitions) -> FitReport:
        """Count further transitions: the same as `fit` to the earlier ones and these.

        The cost depends on how many different (s, a, s') there are, not on how often they occurred.

        Raises:
            InvalidSettingError: As for `fit`, or the model is a posterior draw.
        """
        if self.fitted:
            self._check_counts(self.table.tables())
        return self._count(transitions, anew=False)

    def expected(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return the posterior mean of the next observation's distribution.

        Args:
            observation: `[N]`, `[N, K]` or, of `Dict` and `Tuple` spaces, `[N, F]`.
            action: `[N]` or `[N, K]`.

        Returns:
            Probabilities `[N, S]` (float64) of the observations, numbered with the last choice running fastest.
        """
        posterior = self._posterior()
        return posterior.marginal(self._pair(observation, action), lambda number: number, self.states.count)

    def uncertainty(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return how little is known of the next observation's distribution p `[N]`.

        The square root of the posterior variance of p, summed over the next observations (the trace of the
        Dirichlet's covariance): about 1 / sqrt(1 + prior) before the first visit, falling with visits at least as
        1 / sqrt(visits). Posterior draws know everything: 0.
        """
        posterior, pair = self._posterior(), self._pair(observation, action)
        if posterior.table.is_draw:
            return torch.zeros(len(pair), device=pair.device)
        return posterior.deviation(pair).to(self.encode_observation.dtype)

    def outcome(self, observation: Tensor, action: Tensor) -> Outcome:
        """Return the exact moments of one step at observations `[N]` or `[N, K]` and actions `[N]` or `[N, K]`.

        The deviation of the reward is that of the data: 0 where it was always the same, or seen once.
        """
        posterior, pair = self._posterior(), self._pair(observation, action)
        if self.dynamics_fn is not None:
            following = self.dynamics_fn(observation, action)
            probability = self.encode_observation(following).double()
            moments = posterior.step(pair, self.states.number(following))
            reward, square, end = self._replaced(moments, observation, action, following)
        else:
            probability = self._choices(posterior, pair)
            reward, square, end = self._averaged(posterior.moments(pair), observation, action)
        spread = (probability * (1 - probability)).clamp(min=0).sqrt()
        mean = torch.cat((probability, reward[:, None]), -1)
        off = torch.cat((spread, deviation(reward, square)[:, None]), -1)
        dtype = self.encode_observation.dtype
        return Outcome(mean.to(dtype)[None], off.to(dtype)[None], end.to(dtype)[None])

    def sample_posterior(self, generator: torch.Generator) -> TabularModel:
        """Return a model whose transition probabilities are one draw from the posterior.

        For Thompson sampling over models (Strens 2000, "A Bayesian framework for reinforcement learning"; Osband,
        Russo and Van Roy 2013, "(More) efficient reinforcement learning via posterior sampling"). Rewards and
        terminations given (s, a, s') are the means.

        Args:
            generator: Source of the draw.

        Raises:
            InvalidSettingError: The observations and actions are too many for a table of all probabilities, or the
                model is a draw itself.
        """
        posterior = self._posterior()
        self._check_counts(posterior.table)
        pairs, support = self.states.count * self.actions.count, posterior.support
        if pairs * support > MOST_DRAWN:
            raise InvalidSettingError(
                f"a posterior draw holds at most {MOST_DRAWN} probabilities, but {pairs} (observation, action) and "
                f"{support} next observations make {pairs * support}"
            )
        pair, following, probability = posterior.draw(pairs, generator)
        reward, square, end = posterior.step(pair, following)
        drawn = type(self)(self.observation_space, self.action_space, **self.arguments).to(pair.device)
        drawn.table.draw_as(pair * self.states.count + following, probability, end, reward, square)
        return drawn

    def _check_choices(self) -> None:
        for what, space, chooses, others in (
            (
                "observation",
                self.observation_space,
                not self.encode_observation.continuous.any(),
                " (or Dict or Tuple)",
            ),
            ("action", self.action_space, not isinstance(self.action_space, spaces.Box), ""),
        ):
            if not chooses:
                raise UnsupportedSpaceError(
                    f"TabularModel takes {what}s that are Discrete or MultiDiscrete{others}, but the {what} space is "
                    f"{space}; gymnasium.wrappers.Discretize{what.capitalize()} cuts a bounded Box into bins"
                )

    def _posterior(self) -> DirichletPosterior:
        if not self.fitted:
            raise InvalidSettingError("the model was not fitted yet: call fit(transitions) first")
        table = self.table.tables()
        if self._latest is None or self._latest.table is not table:
            over_seen = self.prior_over == "seen"
            self._latest = DirichletPosterior(table, self.states.count, self.prior, over_seen=over_seen)
        return self._latest

    def _choices(self, posterior: DirichletPosterior, pair: Tensor) -> Tensor:
        """Return the probabilities `[N, F]` of every choice of the next observation."""

        def choice(group: int, number: Tensor) -> Tensor:
            return self.states.split(number)[group]

        sizes = enumerate(self.states.sizes)
        return torch.cat([posterior.marginal(pair, partial(choice, group), size) for group, size in sizes], -1)

    def _check_counts(self, table: Tables) -> None:
        if table.is_draw:
            raise InvalidSettingError("a posterior draw has no counts: use the model from which it was drawn")

    def _pair(self, observation: Tensor, action: Tensor) -> Tensor:
        return self.states.number(observation) * self.actions.count + self.actions.number(action)

    def _count(self, transitions: Transitions, *, anew: bool) -> FitReport:
        begin = time.perf_counter()
        device = self.table.codes.device
        before, action, following = (
            self._numbers(numbering, space, rows, device)
            for numbering, space, rows in (
                (self.states, self.observation_space, transitions.observation),
                (self.actions, self.action_space, transitions.action),
                (self.states, self.observation_space, transitions.next_observation),
            )
        )
        reward = as_tensor(transitions.reward, device).double()
        check(len(reward) >= 1, "the number of transitions", len(reward), "at least 1")
        if not torch.isfinite(reward).all():
            raise InvalidSettingError("fit needs finite rewards, but some are NaN or infinite")
        if anew:
            self.table.clear()
        pair = before * self.actions.count + action
        self.table.add(pair, following, reward, as_tensor(transitions.terminated, device))
        return FitReport(
            transitions=len(reward),
            epochs=1,
            gradient_steps=0,
            loss=float(-self._posterior().probability(pair, following).log().mean()),
            holdout_loss=(),
            elites=(0,),
            seconds=time.perf_counter() - begin,
        )

    def _numbers(
        self, numbering: Numbering, space: spaces.Space[Any], rows: np.ndarray[Any, Any], device: torch.device
    ) -> Tensor:
        """Return the numbers of rows, or refuse those that the space does not hold."""
        values = as_tensor(rows, device)
        columns = numbering.columns(values)
        sizes = torch.tensor(numbering.sizes, device=device)
        if ((columns < 0) | (columns >= sizes)).any():
            raise InvalidSettingError(f"the transitions hold values outside the space {space}")
        return numbering.number(values)

    def _replaced(self, moments: StepMoments, observation: Tensor, action: Tensor, following: Tensor) -> StepMoments:
        """Return the moments of steps to known observations, with the given functions in place of what was learned."""
        reward, square, end = moments
        if self.reward_fn is not None:
            reward = self.reward_fn(observation, action, following).double()
            square = reward**2
        if self.termination_fn is not None:
            end = self.termination_fn(following).double()
        return reward, square, end

    def _averaged(self, moments: StepMoments, observation: Tensor, action: Tensor) -> StepMoments:
        """Return the moments `[N]` of steps, with the given functions, averaged over all next observations."""
        if self.reward_fn is None and self.termination_fn is None:
            return moments
        probability = self.expected(observation, action).T
        every = self.states.rows(torch.arange(self.states.count, device=observation.device))[:, None]
        shape = (len(every), len(observation))
        before, act = (part.expand(*shape, *part.shape[1:]) for part in (observation, action))
        reward, square, end = (part.expand(shape) for part in moments)
        following = every.expand(*shape, *every.shape[2:])
        reward, square, end = self._replaced((reward, square, end), before, act, following)
        return (probability * reward).sum(0), (probability * square).sum(0), (probability * end).sum(0)
