import pytest
import torch
from agent_toys import TINY

from mbrl_gym.agents import MPC

torch.set_num_threads(1)


@pytest.fixture
def tiny_agent():
    def make(env="mbrl/Arm-v0", seed=3, **settings):
        return MPC("iCEM", env, seed=seed, **{**TINY, **settings})

    return make
