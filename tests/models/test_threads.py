"""Work that is shared by threads: all of it is done, once, and nobody else's threads change."""

import threading

import pytest
import torch

from mbrl_gym.models.ensemble_prediction import BLOCK, perceptrons
from mbrl_gym.models.threads import in_threads


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_every_item_is_done_once_by_threads_that_compute_alone(threads, count):
    done, computing, lock = [], set(), threading.Lock()

    def work(share):
        with lock:
            done.extend(share)
            computing.add((threading.get_ident(), torch.get_num_threads()))

    in_threads(work, list(range(count)))
    assert sorted(done) == list(range(count))
    if min(threads, count) > 1:
        assert {number for _, number in computing} == {1}
        assert threading.get_ident() not in {thread for thread, _ in computing}
    assert torch.get_num_threads() == threads


def test_the_callers_modes_hold_and_its_errors_arrive(threads):
    modes = []

    def work(share):
        modes.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))
        if 3 in share:
            raise ZeroDivisionError

    with torch.inference_mode():
        in_threads(work, [0, 1, 2])
    with torch.no_grad(), pytest.raises(ZeroDivisionError):
        in_threads(work, [0, 1, 2, 3])
    assert set(modes) == {(True, False), (False, False)}


def test_predictions_do_not_depend_on_the_number_of_threads(threads):
    generator = torch.Generator().manual_seed(0)
    rows = 3 * BLOCK // 64
    inputs = torch.randn(2, rows, 5, generator=generator)
    weights = [torch.randn(2, *shape, generator=generator) / 8 for shape in ((5, 64), (64, 64), (64, 3))]
    biases = [torch.randn(2, 1, 64, generator=generator) for _ in range(2)]
    found = perceptrons(inputs, weights, biases)
    torch.set_num_threads(1)
    assert torch.equal(found, perceptrons(inputs, weights, biases))
