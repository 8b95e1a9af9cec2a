"""The single probabilistic network; the model contract runs over it as well."""

import inspect

import numpy as np
import pytest
import torch
from model_toys import ALONE, CHOICES, LINE, ODD, PLANE, UNIT, transitions, wild
from torch.testing import assert_close

from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.models import GaussianEnsemble, MLPModel, WorldModel


def noisy(count, seed=0):
    """Draw x' = x + sin 2x + (0.05 or 0.5) eps: noise is ten times as large right of zero; reward x / 2 + 0.1 eps."""
    generator = np.random.default_rng(seed)
    x = generator.uniform(-2, 2, (count, 1))
    change = np.sin(2 * x) + np.where(x > 0, 0.5, 0.05) * generator.normal(size=(count, 1))
    return transitions(
        x, generator.uniform(-1, 1, (count, 1)), x[:, 0] / 2 + 0.1 * generator.normal(size=count), x + change
    )


def test_it_is_an_ensemble_of_one_member():
    data = wild(ODD, 60)
    alone, one = MLPModel(PLANE, ODD, **ALONE, seed=3), GaussianEnsemble(PLANE, ODD, **ALONE, members=1, seed=3)
    assert alone.fit(data).holdout_loss == one.fit(data).holdout_loss
    at = torch.as_tensor(data.observation), torch.as_tensor(data.action)
    assert torch.equal(alone.outcome(*at).mean, one.outcome(*at).mean)
    assert alone.particle_unit == 1


def test_its_uncertainty_is_the_predicted_deviation_in_units_of_the_targets():
    data = wild(ODD, 60)
    model = MLPModel(PLANE, ODD, **ALONE)
    model.fit(data)
    at = torch.as_tensor(data.observation[:5]), torch.as_tensor(data.action[:5])
    deviation = model.outcome(*at).deviation[0].double().numpy() / model.target_scale.double().numpy()
    expected = np.sqrt((deviation**2).mean(1))
    assert_close(model.uncertainty(*at).double(), torch.as_tensor(expected), rtol=1e-4, atol=1e-6)


def test_it_knows_where_steps_are_noisy_and_what_they_lead_to():
    model = MLPModel(LINE, UNIT, hidden=(32, 32), learning_rate=0.005, max_epochs=80)
    model.fit(noisy(1500))
    x = torch.linspace(-1.8, 1.8, 37)[:, None]
    quiet, loud = x[:, 0] < -0.3, x[:, 0] > 0.3
    outcome = model.outcome(x, torch.zeros(37, 1))
    assert (outcome.mean[0, quiet, 0] - torch.sin(2 * x[quiet, 0])).square().mean().sqrt() < 0.05
    assert (outcome.mean[0, loud, 0] - torch.sin(2 * x[loud, 0])).square().mean().sqrt() < 0.2
    deviation = outcome.deviation[0, :, 0]
    assert 0.03 < deviation[quiet].median() < 0.08
    assert 0.4 < deviation[loud].median() < 0.6
    uncertainty = model.uncertainty(x, torch.zeros(37, 1))
    assert uncertainty[loud].min() > 1.5 * uncertainty[quiet].max()


def test_its_settings_are_those_of_an_ensemble_but_for_the_members():
    own, ensemble = (inspect.signature(kind).parameters for kind in (MLPModel, GaussianEnsemble))
    assert set(ensemble) - set(own) == {"members", "elites"}
    assert all(parameter.default == ensemble[name].default for name, parameter in own.items())
    model = MLPModel(PLANE, CHOICES)
    assert set(model.arguments) == set(own) - {"observation_space", "action_space"}


def test_every_setting_survives_a_file(tmp_path):
    settings = {
        "hidden": [7],
        "learning_rate": 0.02,
        "weight_decay": 0.3,
        "batch_size": 9,
        "max_epochs": 4,
        "patience": 2,
        "holdout": 0.3,
        "precision": "bf16",
        "seed": 5,
    }
    model = MLPModel(PLANE, CHOICES, **settings)
    model.save(tmp_path / "model")
    loaded = WorldModel.load(tmp_path / "model")
    assert type(loaded) is MLPModel
    assert {name: loaded.arguments[name] for name in settings} == settings
    assert {name: getattr(loaded, name) for name in settings if name != "hidden"} == {
        name: value for name, value in settings.items() if name != "hidden"
    }


def test_settings_out_of_range_are_refused_by_name():
    with pytest.raises(InvalidSettingError, match=r'precision must be "float32" or "bf16", but .float16. was given'):
        MLPModel(PLANE, ODD, precision="float16")
    with pytest.raises(InvalidSettingError, match=r"hidden must be .* \(0,\) was given"):
        MLPModel(PLANE, ODD, hidden=(0,))
