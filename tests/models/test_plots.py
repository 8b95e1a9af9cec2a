"""The pictures show the report's figures and the model's predictions."""

import dataclasses
import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from model_toys import CHOICES, PLANE, SMALL, UNIT, transitions, wild
from numpy.testing import assert_allclose

from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.models import GaussianEnsemble, evaluate_model
from mbrl_gym.models.plots import plot_error, plot_reliability, plot_trajectory


def drifts(count=40):
    """Return two interleaved episodes of x' = x + a with its negative beside it."""
    generator = np.random.default_rng(0)
    action = generator.uniform(-1.0, 1.0, (count, 2, 1))
    position = np.concatenate((np.zeros((1, 2, 1)), action.cumsum(0))) * [1.0, -2.0]
    flat = [part.reshape(-1, part.shape[-1]) for part in (position[:-1], action, position[1:])]
    data = transitions(flat[0], flat[1], np.zeros(2 * count), flat[2])
    return data._replace(episode=np.tile([5, 3], count))


@pytest.fixture(scope="module")
def model():
    model = GaussianEnsemble(PLANE, UNIT, **SMALL)
    model.fit(drifts())
    return model


@pytest.fixture(scope="module")
def report(model):
    return evaluate_model(model, drifts(), horizons=(1, 3, 10, 99))


def lines(figure, panel=0):
    return {line.get_label(): line.get_xydata() for line in figure.axes[panel].lines}


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def picture(figure):
    """Return the pixels of the PNG."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    file.seek(0)
    return imread(file)


def test_errors_are_drawn_beside_the_baseline(report):
    figure = plot_error(report, title="A title")
    drawn = lines(figure)
    finite = report.horizons[:3]  # no window has 99 steps
    assert_allclose(drawn["model"], [(at.horizon, at.error) for at in finite])
    assert_allclose(drawn["nothing changes"], [(at.horizon, at.baseline) for at in finite])
    assert figure.axes[0].get_xscale() == figure.axes[0].get_yscale() == "log"
    assert legend(figure) == ["model", "nothing changes"]
    assert figure.get_suptitle() == "A title"
    assert picture(figure).std() > 0


def test_models_share_a_baseline_if_they_were_judged_by_the_same_data(report):
    assert legend(plot_error({"a": report, "b": report})) == ["a", "b", "nothing changes"]
    horizons = tuple(dataclasses.replace(at, baseline=2 * at.baseline) for at in report.horizons)
    other = dataclasses.replace(report, horizons=horizons)
    figure = plot_error({"a": report, "b": other})
    assert legend(figure) == ["a", "nothing changes, a", "b", "nothing changes, b"]
    assert_allclose(lines(figure)["nothing changes, b"][:, 1], 2 * lines(figure)["nothing changes, a"][:, 1])


def test_models_of_choices_show_the_share_of_wrong_ones():
    data = wild(UNIT, 100, observation_space=CHOICES)
    model = GaussianEnsemble(CHOICES, UNIT, **SMALL)
    model.fit(data)
    report = evaluate_model(model, data, horizons=(1, 2))
    figure = plot_error(report)
    assert_allclose(lines(figure)["model"][:, 1], [at.misclassified for at in report.horizons])
    assert "wrong" in figure.axes[0].get_ylabel()
    assert picture(figure).std() > 0


def test_the_reliability_diagram_shows_coverage_against_the_diagonal(report):
    figure = plot_reliability(report)
    label = f"model (calibration error {100 * report.calibration_error:.1f}%)"
    drawn = lines(figure)
    assert_allclose(drawn[label], np.column_stack((report.levels, report.coverage)))
    assert_allclose(drawn["calibrated"], [(0, 0), (1, 1)])
    assert legend(figure) == ["calibrated", label, "single columns"]
    assert len(figure.axes[0].lines) == 2 + 2  # the reward is constant
    assert "single columns" not in legend(plot_reliability({"a": report, "b": report}))
    assert picture(figure).std() > 0


def test_a_trajectory_shows_what_happened_and_what_was_predicted(model):
    data = drifts()
    figure = plot_trajectory(model, data, start=3, horizon=12, columns={1: "minus twice x [m]", 0: "x [m]"})
    assert [axes.get_ylabel() for axes in figure.axes] == ["minus twice x [m]", "x [m]"]
    rows = np.arange(3, 3 + 24, 2)  # the episodes alternate
    real = np.concatenate((data.observation[3:4], data.next_observation[rows]))
    state = model.start(torch.as_tensor(data.observation[3:4]), model.particle_unit)
    members = [state]
    for row in rows:
        members.append(model.step(members[-1], torch.as_tensor(data.action[row : row + 1])).state)
    paths = torch.stack(members)[:, :, 0].numpy()  # [13, P, 2]
    for panel, column in enumerate((1, 0)):
        drawn = lines(figure, panel)
        assert_allclose(drawn["real"], np.column_stack((np.arange(13), real[:, column])), rtol=1e-6)
        assert_allclose(drawn["predicted"][:, 1], paths[..., column].mean(1), rtol=1e-4, atol=1e-6)
        bands = {band.get_label(): band.get_paths()[0].vertices for band in figure.axes[panel].collections}
        assert list(bands) == ["90% of noisy particles", "range of the 4 members"]
        low, high = paths[..., column].min(1), paths[..., column].max(1)
        own = bands["range of the 4 members"]
        for step in range(13):
            edge = own[own[:, 0] == step, 1]
            assert_allclose((edge.min(), edge.max()), (low[step], high[step]), rtol=1e-4, atol=1e-6)
    assert picture(figure).std() > 0


def test_a_trajectory_shows_all_columns_by_default_and_changes_with_the_seed_alone(model):
    figures = [plot_trajectory(model, drifts(), 0, 5, seed=seed) for seed in (0, 0, 1)]
    assert [axes.get_ylabel() for axes in figures[0].axes] == ["column 0", "column 1"]
    first, again, other = (figure.axes[0].collections[0].get_paths()[0].vertices for figure in figures)
    assert_allclose(first, again, rtol=0)
    assert (first != other).any()


def test_what_cannot_be_drawn_is_refused(model, report):
    data = drifts()
    with pytest.raises(InvalidSettingError, match=r"start.*row of the 80.*80 was given"):
        plot_trajectory(model, data, 80, 1)
    with pytest.raises(InvalidSettingError, match="at most the 38 steps that row 5's"):
        plot_trajectory(model, data, 5, 39)
    with pytest.raises(InvalidSettingError, match=r"horizon.*at least 1"):
        plot_trajectory(model, data, 5, 0)
    with pytest.raises(InvalidSettingError, match=r"columns.*between 0 and 1"):
        plot_trajectory(model, data, 0, 5, [0, 2])
    with pytest.raises(InvalidSettingError, match="reports"):
        plot_error({})
    with pytest.raises(InvalidSettingError, match="between 1 and 6"):
        plot_reliability({str(i): report for i in range(7)})


def test_importing_models_does_not_import_matplotlib():
    code = "import sys, mbrl_gym.models; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
