"""Planner tests run on one thread: the batches are too small for more."""

import torch

torch.set_num_threads(1)
