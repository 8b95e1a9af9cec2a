"""What every world model promises; a new model joins by a line in `model_toys.CASES`."""

import copy
import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from model_toys import CASES, LINE, SIMULATORS, UNIT, Case, wild
from torch.testing import assert_close

import mbrl_gym.models
from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models import AnalyticModel, ExactModel, FitReport, GaussianEnsemble, Prediction, WorldModel, draw
from mbrl_gym.models.learned import LearnedModel
from mbrl_gym.models.saved import storable
from mbrl_gym.models.spaces import from_rows
from mbrl_gym.noise import Noise, NoiseSizes
from mbrl_gym.wrappers import SimulatorModel


@pytest.fixture(scope="module", params={**CASES, **SIMULATORS})
def case(request: pytest.FixtureRequest) -> Case:
    """Every model."""
    return {**CASES, **SIMULATORS}[request.param]()


@pytest.fixture(scope="module", params=CASES)
def own_case(request: pytest.FixtureRequest) -> Case:
    """Every model whose parts can be replaced by functions and saved: not a simulator, which is its environment."""
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
        assert prediction.observation.shape == (particles, *case.observation[:rows].shape)
        assert prediction.reward.shape == prediction.terminated.shape == (particles, rows)
        assert prediction.reward.dtype == model.encode_observation.dtype
        if model.encode_observation.chooses:
            assert prediction.observation.dtype == torch.int64
            decoded = from_rows(model.observation_space, prediction.observation.flatten(0, 1).numpy())
            assert all(row in model.observation_space for row in decoded)
        else:
            assert prediction.observation.dtype == prediction.reward.dtype
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


def test_particles_may_start_apart_and_act_apart(case):
    """Each particle at its own observation, with its own action, equals the diagonal of the product of both."""
    unit = case.model.particle_unit
    starts = torch.stack([case.observation.roll(p, 0) for p in range(unit)])
    actions = torch.stack([case.action.roll(p, 0) for p in range(unit)])
    noise = noise_of(case.model, unit, 6)
    apart = case.model.step(case.model.start(starts, unit), actions, noise)
    for p in range(unit):
        alone = case.model.step(case.model.start(starts[p], unit), actions[p], noise)
        for name in ("observation", "reward", "terminated"):
            assert_close(getattr(apart, name)[p], getattr(alone, name)[p])


def test_states_are_nested_tuples_of_tensors_with_particles_and_rows_first(case):
    unit = case.model.particle_unit
    state = case.model.step(case.model.start(case.observation, unit), case.action).state
    leaves = torch.utils._pytree.tree_leaves(state)
    assert leaves
    assert all(isinstance(leaf, torch.Tensor) and leaf.shape[:2] == (unit, 6) for leaf in leaves)


def test_outcome_is_the_mean_of_many_noisy_steps(case):
    """The mixture's mean equals the sample mean of targets, within five standard errors."""
    model, samples = case.model, 2000 * case.model.particle_unit
    outcome = model.outcome(case.observation, case.action)
    columns = model.encode_observation.size + 1
    assert outcome.mean.shape == outcome.deviation.shape == (len(outcome.mean), 6, columns)
    assert outcome.terminated.shape == outcome.mean.shape[:2]
    assert outcome.mean.dtype == outcome.deviation.dtype == outcome.terminated.dtype == model.encode_observation.dtype
    assert (outcome.deviation >= 0).all()
    assert ((outcome.terminated >= 0) & (outcome.terminated <= 1)).all()
    prediction = model.step(model.start(case.observation, samples), case.action, noise_of(model, samples, 6))
    encode = model.encode_observation
    drawn = encode.targets(encode(case.observation).expand(samples, -1, -1), encode(prediction.observation)).double()
    tolerance = 5 * drawn.std(0) / samples**0.5 + 1e-3 * (1 + drawn.mean(0).abs())
    if any(model.noise_sizes) and isinstance(model, ExactModel | SimulatorModel):
        tolerance = tolerance + 5 * drawn.std(0) / 256**0.5  # the default is an estimate itself
    expected = outcome.mean.mean(0)[:, :-1].double()
    for first, last in encode.groups:  # what is drawn are the normalised probabilities
        weights = outcome.mean[..., first:last].double().clamp(min=0)
        expected[:, first:last] = (weights / weights.sum(-1, keepdim=True)).mean(0)
    assert ((drawn.mean(0) - expected).abs() <= tolerance).all()


def test_a_file_holds_the_model(own_case, tmp_path):
    """What `save` wrote, `load` reads: the same predictions, and the same next fit."""
    own_case.model.save(tmp_path / "model")
    functions = {name: value for name, value in own_case.model.arguments.items() if not storable(value)}
    if functions:
        with pytest.raises(InvalidSettingError, match=next(iter(functions))):
            WorldModel.load(tmp_path / "model")
    twin = type(own_case.model).load(tmp_path / "model.zip", **functions)
    general = WorldModel.load(tmp_path / "model.zip", **functions)
    assert type(twin) is type(general) is type(own_case.model)
    assert (twin.observation_space, twin.action_space) == (
        own_case.model.observation_space,
        own_case.model.action_space,
    )
    for loaded in (twin, general):
        prediction = loaded.step(loaded.start(own_case.observation, loaded.particle_unit), own_case.action)
        assert_same(prediction, predict(own_case), rtol=0, atol=0)
    if isinstance(own_case.model, ExactModel):
        return
    data = wild(own_case.model.action_space, 20, observation_space=own_case.model.observation_space)
    original = copy.deepcopy(own_case.model)
    original.fit(data)
    twin.fit(data)
    for name, value in original.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name]), name


def test_a_file_is_not_loaded_into_an_environment_with_other_spaces(own_case, tmp_path):
    own_case.model.save(tmp_path / "model")
    functions = {name: value for name, value in own_case.model.arguments.items() if not storable(value)}
    right = SimpleNamespace(
        observation_space=own_case.model.observation_space, action_space=own_case.model.action_space
    )
    WorldModel.load(tmp_path / "model", right, **functions)
    other = spaces.Box(-1.0, 1.0, (17,))
    for name in ("observation", "action"):
        wrong = SimpleNamespace(**{**vars(right), f"{name}_space": other})
        with pytest.raises(InvalidSettingError, match=rf"{name} space .*\(17,\)"):
            WorldModel.load(tmp_path / "model", wrong, **functions)


def test_a_refused_fit_leaves_the_model_as_it_was(case):
    if not isinstance(case.model, LearnedModel):
        return
    model = copy.deepcopy(case.model)
    data = wild(model.action_space, 20, observation_space=model.observation_space)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wide = np.concatenate([data.observation.reshape(20, -1)] * 2, axis=1)
    for wrong in (
        data._replace(observation=wide, next_observation=wide),
        data._replace(action=np.stack([data.action] * 3, -1)),
        data._replace(reward=np.full(20, np.nan)),
    ):
        with pytest.raises(InvalidSettingError):
            model.fit(wrong)
        assert_same(
            model.step(model.start(case.observation, model.particle_unit), case.action), predict(case), rtol=0, atol=0
        )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_rows_of_any_strides_that_cannot_be_written_into_are_learned_from(case):
    if isinstance(case.model, ExactModel | SimulatorModel):
        return
    data = wild(case.model.action_space, 20, observation_space=case.model.observation_space)
    backwards = data.rows(slice(None, None, -1))
    for part in backwards:
        part.flags.writeable = False
    first, second = copy.deepcopy(case.model), copy.deepcopy(case.model)
    first.fit(backwards)
    second.fit(type(data)(*(part.copy() for part in backwards)))
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def test_functions_see_the_same_observation_in_outcome_and_step(case):
    if not isinstance(case.model, LearnedModel) or case.model.encode_observation.chooses:
        return

    def dynamics_fn(observation, action):
        return observation + 1000.0

    def termination_fn(next_observation):
        return next_observation[..., -1] > case.observation[0, -1] + 999.0

    model = case.make(dynamics_fn=dynamics_fn, termination_fn=termination_fn)
    prediction = model.step(model.start(case.observation, model.particle_unit), case.action)
    outcome = model.outcome(case.observation, case.action)
    assert prediction.terminated.any()
    assert torch.equal(outcome.terminated.bool(), prediction.terminated[: len(outcome.terminated)])


def test_dynamics_can_be_replaced_by_an_exact_function(case):
    if not isinstance(case.model, LearnedModel):
        return

    def dynamics_fn(observation, action):
        return observation.roll(1, observation.ndim - case.observation.ndim)  # every row takes its neighbour's place

    model = case.make(dynamics_fn=dynamics_fn)
    noise = noise_of(model, model.particle_unit, 6)
    state = model.start(case.observation, model.particle_unit)
    prediction = model.step(state, case.action, noise)
    assert torch.equal(prediction.observation, dynamics_fn(state, case.action))
    if not getattr(model, "looks_ahead", False):  # whose reward depends on where a step leads, as the bonus of an end
        learned = case.make()
        for one in (model, learned):
            one.end_bonus.zero_()
        plain, exact = (one.step(state, case.action, noise).reward for one in (learned, model))
        assert_close(exact, plain)
    outcome = model.outcome(case.observation, case.action)
    assert (outcome.deviation[..., :-1] == 0).all()


def test_without_noise_the_random_numbers_sit_at_their_centre(case):
    if case.model.encode_observation.groups:
        return  # choices: the most probable one
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
    if isinstance(case.model, ExactModel | AnalyticModel | SimulatorModel):
        assert (uncertainty == 0).all()
    else:
        assert (uncertainty > 0).all()  # members saw different samples


def test_a_model_that_says_it_never_terminates_does_not(case):
    prediction = predict(case, noise=noise_of(case.model, case.model.particle_unit, 6))
    assert case.model.terminates or not prediction.terminated.any()


def test_reward_and_termination_functions_replace_the_models_own(own_case):
    seen = {}

    def total(observation):  # some columns are the same in all rows
        return observation.sum(-1) if own_case.observation.ndim == 2 else observation

    def reward_fn(observation, action, next_observation):
        seen.update(observation=observation, action=action, following=next_observation)
        return (total(observation) - 3 * total(next_observation)).to(torch.float32)

    def termination_fn(next_observation):
        return total(next_observation) > threshold

    noise = noise_of(own_case.model, own_case.model.particle_unit, 6)
    threshold = total(predict(own_case, noise=noise).observation).double().mean().item()
    model = own_case.make(reward_fn=reward_fn, termination_fn=termination_fn)
    prediction = model.step(model.start(own_case.observation, model.particle_unit), own_case.action, noise)
    kept = dict(seen)
    expected = reward_fn(own_case.observation, own_case.action, prediction.observation)
    assert_close(prediction.reward, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(prediction.terminated, total(prediction.observation) > threshold)
    assert 0 < prediction.terminated.sum() < prediction.terminated.numel()
    assert model.terminates
    assert torch.equal(kept["observation"], own_case.observation.expand_as(kept["observation"]))
    assert torch.equal(kept["action"], own_case.action.expand_as(kept["action"]))
    assert kept["action"].shape[:2] == (model.particle_unit, 6)
    assert torch.equal(kept["following"], prediction.observation)


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
    spaces.MultiBinary(3),
    spaces.Dict({"a": LINE, "b": spaces.Text(3)}),
    spaces.MultiDiscrete([[2, 3]]),
    spaces.Box(0, 255, (8, 8), np.uint8),
    spaces.Box(-1.0, 1.0, (), np.float32),
]
BAD_ACTIONS = [
    spaces.Dict({"a": UNIT}),
    spaces.MultiDiscrete([[2, 3]]),
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
