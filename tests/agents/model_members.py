"""A model whose members differ in a way that can be counted by hand."""

import numpy as np
import torch
from gymnasium import spaces

from mbrl_gym.models import WorldModel
from mbrl_gym.models.base import Prediction
from mbrl_gym.noise import NoiseSizes


class Lengths(WorldModel):
    """Member m ends episodes after `lengths[m]` steps, each of which earns m + 1; the observation counts steps."""

    noise_sizes = NoiseSizes(0, 0)

    def __init__(self, lengths):
        super().__init__(spaces.Box(-np.inf, np.inf, (1,), np.float32), spaces.Discrete(2))
        self.lengths = torch.tensor(lengths)[:, None]
        self.arguments = {"lengths": lengths}

    @property
    def particle_unit(self):
        return len(self.lengths)

    def start(self, observation, particles=1):
        self.check_particles(particles)
        return observation.expand(particles, *observation.shape[-2:])

    def step(self, state, action, noise=None):
        following = state + 1
        reward = (1.0 + torch.arange(len(self.lengths)))[:, None].expand(following.shape[:2])
        return Prediction(following, following, reward, following[..., 0] >= self.lengths)

    def fit(self, transitions):
        raise NotImplementedError

    def uncertainty(self, observation, action):
        return torch.zeros(len(observation))
