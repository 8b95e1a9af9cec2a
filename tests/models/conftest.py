"""World-model tests run on one thread: the matrices are too small for more."""

import torch

torch.set_num_threads(1)
