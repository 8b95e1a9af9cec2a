"""DeepMind's mctx on the trivial model of `benchmarks/mcts.py`, in its own environment (`pip install mctx jax`).

Reads lines of "trees simulations" and answers each with the seconds that one search took; the first search of a size
compiles and is not counted. The model has 8 numbers for a state and 4 actions.
"""

import functools
import sys
import time

import jax
import jax.numpy as jnp
import mctx

CENTRES = jnp.arange(8) - 3.5


def step(params, key, action, state):
    """Advance states [B, 8] by actions [B], and judge where they lead."""
    following = 0.9 * state + 0.1 * (action[:, None] - 1.5) * CENTRES
    reward = -(following**2).sum(1)
    batch = len(action)
    output = mctx.RecurrentFnOutput(
        reward=reward,
        discount=jnp.full(batch, 0.99),
        prior_logits=jnp.zeros((batch, 4)),
        value=-(following**2).sum(1),
    )
    return output, following


@functools.partial(jax.jit, static_argnums=2)
def search(key, state, simulations):
    """Return the actions that searches from states [B, 8] choose."""
    root = mctx.RootFnOutput(prior_logits=jnp.zeros((len(state), 4)), value=-(state**2).sum(1), embedding=state)
    policy = mctx.muzero_policy((), key, root, step, simulations, dirichlet_fraction=0.0, temperature=0.0)
    return policy.action


ready = set()
for line in sys.stdin:
    trees, simulations = map(int, line.split())
    state = jax.random.normal(jax.random.PRNGKey(0), (trees, 8))
    key = jax.random.PRNGKey(1)
    if (trees, simulations) not in ready:
        search(key, state, simulations).block_until_ready()
        ready.add((trees, simulations))
    begin = time.perf_counter()
    search(key, state, simulations).block_until_ready()
    print(time.perf_counter() - begin, flush=True)
