"""What every world model promises; a new model joins by a line in `model_toys.CASES`."""

import copy
import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from model_toys import CASES, LINE, UNIT, Case, wild
from torch.testing import assert_close

import mbrl_gym.models
from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models import ExactModel, FitReport, GaussianEnsemble, Prediction, WorldModel, draw
from mbrl_gym.noise import Noise, NoiseSizes


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    """Every model."""
    return CASES[request.param]()


def noise_of(model: WorldModel, *batch: int, seed: int = 0) -> Noise:
    return draw(torch.Generator().manual_seed(seed), batch, model.noise_sizes)


def predict(case: Case, *, units: int = 1, noise: Noise | None = None, rows: slice | list[int] = slice(None)):
    """Predict one step of some rows of the case."""
    state = case.model.start(case.observation[rows], units * case.model.particle_unit)
    return case.model.step(state, case.action[rows], noise)


def assert_same(first: Prediction, second: Prediction, **tolerance: float) -> None:
    for name in ("observation", "reward", "terminated"):
        assert_close(getattr(first, name), getattr(second, name), **tolerance, msg=lambda m, n=name: f"{n}: {m}")


def test_every_exported_model_takes_part():
    exported = [getattr(mbrl_gym.models, name) for name in mbrl_gym.models.__all__]
    models = {item for item in exported if inspect.isclass(item) and issubclass(item, WorldModel)} - {WorldModel}
    assert {type(make().model) for make in CASES.values()} == models


@pytest.mark.parametrize("units", [1, 2, 4])
@pytest.mark.parametrize("rows", [1, 6])
@pytest.mark.parametrize("noisy", [False, True])
def test_shapes_and_dtypes_over_several_steps(case, units, rows, noisy):
    model, particles = case.model, units * case.model.particle_unit
    state = model.start(case.observation[:rows], particles)
    for step in range(3):
        noise = noise_of(model, particles, rows, seed=step) if noisy else None
        prediction = model.step(state, case.action[:rows], noise)
        state = prediction.state
        assert prediction.observation.shape == (particles, rows, *model.observation_space.shape)
        assert prediction.reward.shape == prediction.terminated.shape == (particles, rows)
        assert prediction.observation.dtype == prediction.reward.dtype == torch.float32
        assert prediction.terminated.dtype == torch.bool
        assert prediction.observation.isfinite().all()
        assert prediction.reward.isfinite().all()


def test_start_refuses_numbers_of_particles_that_do_not_spread(case):
    unit = case.model.particle_unit
    for wrong in (0, -unit, *((unit + 1, 4 * unit - 1) if unit > 1 else ())):
        with pytest.raises(InvalidSettingError, match=rf"{type(case.model).__name__}.* {unit} .* {wrong} was given"):
            case.model.start(case.observation, wrong)


def test_same_noise_gives_the_same_prediction(case):
    noise = noise_of(case.model, 2 * case.model.particle_unit, 6)
    first = predict(case, units=2, noise=noise)
    torch.rand(7)  # whatever happens to the global generator
    second = predict(case, units=2, noise=Noise(noise.normal.clone(), noise.uniform.clone()))
    assert_same(first, second, rtol=0, atol=0)


def test_noise_changes_the_prediction_exactly_where_the_model_declares_some(case):
    particles = case.model.particle_unit
    first, second = (predict(case, noise=noise_of(case.model, particles, 6, seed=seed)) for seed in (0, 1))
    assert (first.observation != second.observation).any().item() == any(case.model.noise_sizes)


def test_without_noise_the_random_numbers_sit_at_their_centre(case):
    particles, (normal, uniform) = case.model.particle_unit, case.model.noise_sizes
    centre = Noise(torch.zeros(particles, 6, normal), torch.full((particles, 6, uniform), 0.5))
    torch.manual_seed(0)
    first = predict(case)
    torch.manual_seed(1)
    assert_same(first, predict(case), rtol=0, atol=0)
    assert_same(first, predict(case, noise=centre))


def test_without_noise_particles_of_one_unit_agree_with_those_of_the_next(case):
    unit, once, twice = case.model.particle_unit, predict(case), predict(case, units=2)
    for particle in range(2 * unit):
        assert_close(twice.observation[particle], once.observation[particle // 2])


def test_noise_that_is_common_to_the_rows_is_broadcast(case):
    particles = 2 * case.model.particle_unit
    noise = noise_of(case.model, particles, 1)
    repeated = Noise(*(part.expand(particles, 6, part.shape[-1]) for part in noise))
    assert_same(predict(case, units=2, noise=noise), predict(case, units=2, noise=repeated), rtol=0, atol=0)


def test_permuted_rows_give_permuted_predictions(case):
    order = [4, 0, 5, 2, 1, 3]
    noise = noise_of(case.model, case.model.particle_unit, 6)
    plain = predict(case, noise=noise)
    permuted = predict(case, noise=Noise(*(part[:, order] for part in noise)), rows=order)
    moved = Prediction(None, plain.observation[:, order], plain.reward[:, order], plain.terminated[:, order])
    assert_same(permuted, moved)
    uncertainty = case.model.uncertainty(case.observation, case.action)
    assert_close(case.model.uncertainty(case.observation[order], case.action[order]), uncertainty[order])


def test_a_row_does_not_see_the_others(case):
    together = predict(case)
    for row in range(6):
        alone = predict(case, rows=slice(row, row + 1))
        assert_close(alone.observation[:, 0], together.observation[:, row])
        assert_close(alone.reward[:, 0], together.reward[:, row])


def test_arguments_stay_as_they_are(case):
    observation, action = case.observation.clone(), case.action.clone()
    noise = noise_of(case.model, case.model.particle_unit, 6)
    normal = noise.normal.clone()
    first = predict(case, noise=noise)
    kept = first.observation.clone()
    case.model.step(first.state, case.action, noise)
    case.model.uncertainty(case.observation, case.action)
    assert torch.equal(observation, case.observation)
    assert torch.equal(action, case.action)
    assert torch.equal(normal, noise.normal)
    assert torch.equal(kept, first.observation)  # the next step does not write into the last one's prediction


def test_uncertainty_is_one_finite_non_negative_number_a_row(case):
    uncertainty = case.model.uncertainty(case.observation, case.action)
    assert uncertainty.shape == (6,)
    assert uncertainty.isfinite().all()
    assert (uncertainty >= 0).all()
    if isinstance(case.model, ExactModel):
        assert (uncertainty == 0).all()
    else:
        assert (uncertainty > 0).all()  # members saw different samples


def test_a_model_that_says_it_never_terminates_does_not(case):
    prediction = predict(case, noise=noise_of(case.model, case.model.particle_unit, 6))
    assert case.model.terminates or not prediction.terminated.any()


def test_reward_and_termination_functions_replace_the_models_own(case):
    seen = {}

    def reward_fn(observation, action, next_observation):
        seen.update(observation=observation, action=action, following=next_observation)
        return observation[..., 0] - 3 * next_observation[..., 0]

    def termination_fn(next_observation):
        return next_observation[..., 0] > threshold

    threshold = predict(case).observation[..., 0].median().item()
    model = case.make(reward_fn=reward_fn, termination_fn=termination_fn)
    noise = noise_of(model, model.particle_unit, 6)
    prediction = model.step(model.start(case.observation, model.particle_unit), case.action, noise)
    assert_close(prediction.reward, case.observation[:, 0] - 3 * prediction.observation[..., 0], rtol=1e-5, atol=1e-5)
    assert torch.equal(prediction.terminated, prediction.observation[..., 0] > threshold)
    assert 0 < prediction.terminated.sum() < prediction.terminated.numel()
    assert model.terminates
    assert torch.equal(seen["observation"], case.observation.expand_as(seen["observation"]))
    assert torch.equal(seen["action"], case.action.expand_as(seen["action"]))
    assert seen["action"].shape[:2] == (model.particle_unit, 6)
    assert torch.equal(seen["following"], prediction.observation)


def test_a_copy_predicts_the_same(case):
    twin = copy.deepcopy(case.model)
    state = twin.start(case.observation, twin.particle_unit)
    assert_same(twin.step(state, case.action), predict(case), rtol=0, atol=0)
    assert twin.fitted


def test_fit_reports_what_it_saw(case):
    data = wild(case.model.action_space, 20)
    observation = case.observation.numpy()[np.arange(20) % 6]
    data = data._replace(observation=observation, next_observation=observation + 0.1)
    report = copy.deepcopy(case.model).fit(data)
    assert isinstance(report, FitReport)
    assert report.transitions == 20
    assert report.seconds >= 0


def test_global_generators_are_neither_used_nor_changed(case):
    def global_states():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()

    before = global_states()
    model = case.make()
    noise = noise_of(model, model.particle_unit, 6)
    model.step(model.start(case.observation, model.particle_unit), case.action, noise)
    model.uncertainty(case.observation, case.action)
    assert global_states() == before


BAD_OBSERVATIONS = [
    spaces.Dict({"a": LINE}),
    spaces.Tuple([LINE]),
    spaces.Discrete(3),
    spaces.MultiBinary(3),
    spaces.Box(0, 255, (8, 8), np.uint8),
    spaces.Box(-1.0, 1.0, (), np.float32),
]
BAD_ACTIONS = [
    spaces.Dict({"a": UNIT}),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiBinary(3),
    spaces.Box(-1.0, 1.0, (2, 2), np.float32),
    spaces.Box(-np.inf, np.inf, (1,), np.float32),
    spaces.Box(np.float32([-1.0, 0.0]), np.float32([1.0, np.inf])),
]


def make_ensemble(observation_space: spaces.Space, action_space: spaces.Space) -> WorldModel:
    return GaussianEnsemble(observation_space, action_space)


def make_exact(observation_space: spaces.Space, action_space: spaces.Space) -> WorldModel:
    task = SimpleNamespace(
        fully_observed=True,
        observation_space=observation_space,
        action_space=action_space,
        transition_noise=NoiseSizes(),
        reward=None,
        terminal=None,
    )
    return ExactModel(task)


@pytest.mark.parametrize("make", [make_ensemble, make_exact])
@pytest.mark.parametrize("space", BAD_OBSERVATIONS, ids=str)
def test_unsupported_observations_are_refused_with_what_would_work(make, space):
    with pytest.raises(UnsupportedSpaceError) as caught:
        make(space, UNIT)
    assert str(space) in str(caught.value)
    assert "flat Box" in str(caught.value)
    assert "FlattenObservation" in str(caught.value)


@pytest.mark.parametrize("make", [make_ensemble, make_exact])
@pytest.mark.parametrize("space", BAD_ACTIONS, ids=str)
def test_unsupported_actions_are_refused_with_what_would_work(make, space):
    with pytest.raises(UnsupportedSpaceError) as caught:
        make(LINE, space)
    assert str(space) in str(caught.value)
    assert "Discrete" in str(caught.value)
    assert "bounded Box" in str(caught.value)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3, 4)])
def test_draw_makes_noise_of_the_declared_sizes(batch):
    noise = draw(torch.Generator().manual_seed(0), batch, NoiseSizes(normal=2, uniform=5))
    assert noise.normal.shape == (*batch, 2)
    assert noise.uniform.shape == (*batch, 5)
    empty = draw(torch.Generator().manual_seed(0), batch, NoiseSizes())
    assert empty.normal.shape == empty.uniform.shape == (*batch, 0)


def test_drawn_noise_is_standard_normal_and_uniform_and_follows_its_generator():
    sizes = NoiseSizes(normal=1, uniform=1)
    noise = draw(torch.Generator().manual_seed(0), (20_000,), sizes)
    assert noise.normal.mean().abs() < 0.03
    assert (noise.normal.std() - 1).abs() < 0.03
    assert noise.uniform.min() >= 0
    assert noise.uniform.max() < 1
    assert (noise.uniform.mean() - 0.5).abs() < 0.01
    assert (noise.uniform.var() - 1 / 12).abs() < 0.003
    again = draw(torch.Generator().manual_seed(0), (20_000,), sizes)
    other = draw(torch.Generator().manual_seed(1), (20_000,), sizes)
    assert torch.equal(noise.normal, again.normal)
    assert not torch.equal(noise.normal, other.normal)
