"""Reports of benchmarks: from hand-made runs, from empty, partial and full folders, and in a real browser."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_toys import document, small_suite, write_toml
from PIL import Image
from test_cli import call

from mbrl_gym.agents.benchmark.bench import make_plan
from mbrl_gym.agents.benchmark.findings import Collection, Group, collect, efficiency, improvements, standings
from mbrl_gym.agents.benchmark.markdown import environment_table, markdown
from mbrl_gym.agents.benchmark.published import csv_text, headline, read_csv
from mbrl_gym.agents.benchmark.records import Run
from mbrl_gym.agents.benchmark.report import write_report
from mbrl_gym.agents.benchmark.trial import attempt
from mbrl_gym.errors import DamagedFileError

REFERENCE = {"random": -100.0, "optimal": 0.0, "kind": "exact", "method": "by hand"}


def made_group(agent: str, algorithm: str, curves: list[list[float]], step: int = 10, **changes: Any) -> Group:
    """Make runs by hand: an evaluation every so many steps, each of which takes 0.1 s."""
    settings = {"env_id": "Some-v0", "agent": agent, "algorithm": algorithm, "reference": REFERENCE, **changes}
    defaults = {
        "policy": "",
        "env": {},
        "shared_env": {},
        "n_envs": 1,
        "normalize": False,
        "source": "",
        "settings": {},
    }
    runs, contents = [], []
    for seed, curve in enumerate(curves):
        steps = step * np.arange(len(curve))
        mean = np.array(curve, float)
        runs.append(Run(agent, seed, Path("nowhere"), steps, 0.1 * steps, mean, 0 * mean, 2.0))
        contents.append(
            {
                "settings": {**defaults, **settings, "seed": seed},
                "versions": {"python": "3"},
                "seconds": {"env": 1.0, "fit": 0.0, "plan": 2.0, "update": 1.0, "other": 0.0},
            }
        )
    return Group("Some-v0", agent, runs, contents)


OURS = made_group("mpc", "MPC", [[-100, -8, -5], [-100, -50, -9], [-100, -10, -1]])
BASELINE = made_group("sac", "SAC", [[-100, -60, -20], [-100, -50, -11], [-100, -50, -9]], step=1000)


def test_scores_and_times_of_hand_made_runs() -> None:
    assert OURS.scores is not None
    assert OURS.scores[-1] == pytest.approx([0.95, 0.91, 0.99])
    best, other = standings([BASELINE, OURS])
    assert (best.group.agent, other.group.agent) == ("mpc", "sac")
    assert best.final_return.value == pytest.approx(-5)
    assert best.steps is not None
    assert best.seconds is not None
    assert (best.steps.median, best.steps.reached) == (10, 3)  # the runs reach 0.9 after 10, 20 and 10 steps
    assert best.seconds.median == pytest.approx(1)
    assert other.steps is not None
    assert (other.steps.median, other.steps.at_least, other.steps.reached) == (float("inf"), 2000, 1)


def test_the_table_says_what_is_not_reached() -> None:
    caption, header, rows = environment_table(standings([BASELINE, OURS]))
    assert caption == "Random actions return -100.00, the best 0.00 (exact, by hand)"
    ours, other = (dict(zip(header, row, strict=True)) for row in rows)
    assert ours["steps to 0.9"] == "10 (10 to 20)"
    assert other["steps to 0.9"] == "> 2,000; 1 of 3 runs"
    assert ours["return"] == "-5.00 (-9.00 to -1.00)"
    assert ours["score"] == "0.95 (0.91 to 0.99)"
    assert (ours["seeds"], ours["steps"], ours["a decision [ms]"]) == ("3", "20", "2.00")


def test_efficiency_is_a_lower_bound_where_the_baseline_does_not_get_there() -> None:
    (found,) = efficiency([BASELINE, OURS])
    assert (found.ours.agent, found.other.agent) == ("mpc", "sac")
    assert (found.steps.value, found.steps_bound) == (200, True)
    assert (found.seconds.value, found.seconds_bound) == (pytest.approx(200), True)
    slow = made_group("sac", "SAC", [[-100, -60, -2], [-100, -50, -1], [-100, -3, -9]], step=1000)
    (found,) = efficiency([slow, OURS])
    assert (found.steps.value, found.steps_bound) == (200, False)
    assert efficiency([BASELINE]) == []


def test_without_a_reference_there_are_returns_only() -> None:
    group = made_group("mpc", "MPC", [[-5, -1], [-5, -2]], reference={})
    caption, header, rows = environment_table(standings([group]))
    row = dict(zip(header, rows[0], strict=True))
    assert caption == ""
    assert (row["score"], row["steps to 0.9"]) == ("-", "-")
    assert efficiency([group]) == []


def test_scores_and_times_of_the_csv_are_those_of_the_runs(tmp_path: Path) -> None:
    groups = [OURS, BASELINE, made_group("a2c", "A2C", [[-100 / 3, -1 / 3], [-100 / 7, -1e-9]], reference={})]
    file = tmp_path / "runs.csv"
    file.write_text(csv_text(Collection(groups)))
    again = read_csv([file])
    assert csv_text(again) == file.read_text()
    assert headline(again) == headline(Collection(groups))
    for group, other in zip(groups, again.groups, strict=True):
        np.testing.assert_array_equal(group.returns, other.returns)
        np.testing.assert_array_equal(group.steps, other.steps)
        assert (group.ours, group.scores is None) == (other.ours, other.scores is None)
    file.write_text(file.read_text().replace("mpc,MPC,2,20,", "mpc,MPC,2,many,"))
    with pytest.raises(DamagedFileError, match=r"runs.csv, line 10: .*'many'"):
        read_csv([file])


def test_the_headline_of_hand_made_runs() -> None:
    """mpc reaches 0.9 after 10, 20 and 10 steps of 0.1 s; one run of sac after 2,000 of 0.1 s, two never."""
    slow = made_group("other", "MBPO", [[-100, -50, -1]] * 3)
    ppo = made_group("ppo", "PPO", [[-100, -9, -1], [-100, -9, -5], [-100, -50, -50]], step=2000)
    _, header, (row,) = headline(Collection([slow, OURS, BASELINE, ppo]))
    cells = dict(zip(header, row, strict=True))
    assert cells == {
        "environment": "Some-v0",
        "agent": "mpc",
        "steps to 0.9": "10",
        "steps of PPO": "2,000 (200 times)",
        "steps of SAC or DQN": "> 2,000 (> 200 times)",
        "seconds to 0.9": "1.00",
        "seconds of PPO": "200 (200 times)",
        "seconds of SAC or DQN": "> 200 (> 200 times)",
    }
    lost = made_group("mpc", "MPC", [[-100, -90], [-100, -90]])
    _, _, (row,) = headline(Collection([lost, ppo]))
    assert row[2:5] == ["> 10", "2,000 (-)", "-"]
    assert headline(Collection([BASELINE, ppo]))[2] == []


# From folders ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished benchmark with pictures."""
    folder = tmp_path_factory.mktemp("report")
    content = document(env={"max_episode_steps": 25}, reference=REFERENCE)  # short episodes
    file = write_toml(folder / "drift.toml", content)
    done = call("bench", file, "--seeds", 2, "--out", folder / "out")
    assert done.exit_code == 0, done.output
    return folder / "out"


def sources(page: str) -> list[str]:
    return re.findall(r'<img src="([^"]+)"', page)


def test_a_full_folder(full: Path) -> None:
    text, page = (full / "report.md").read_text(), (full / "report.html").read_text()
    assert text.startswith("# Benchmark\n\n4 runs of 2 agents in 1 environments.")
    for words in ("## All environments", "## mbrl/Drift-v0", "| mpc > ppo | 1 |", "## Settings", "git revision"):
        assert words in text
    for words in ("Failed", "Damaged", "Unfinished"):
        assert words not in text + page
    kinds = [source[:15] for source in sources(page)]
    assert kinds == ["data:image/png;"] * 4 + ["data:image/gif;"] * 2 + ["data:image/png;"]
    assert "http" not in page.replace("https://", "")  # no other file is asked for
    rows = list(csv.DictReader((full / "runs.csv").read_text().splitlines()))
    assert len(rows) == 2 * 4 + 2 * 3
    run = next(path for path in full.glob("*/mpc-1/curve.csv"))
    last = list(csv.DictReader(run.read_text().splitlines()))[-1]
    (row,) = [row for row in rows if (row["agent"], row["seed"], row["steps"]) == ("mpc", "1", "60")]
    assert float(row["mean_return"]) == pytest.approx(float(last["mean_return"]), abs=1e-3)


def test_films_and_models_are_of_the_first_seed(full: Path) -> None:
    names = {path.parent.name: path.name for path in full.glob("*/*/film.gif")}
    assert set(names) == {"mpc-0", "ppo-0"}
    assert [path.parent.name for path in full.glob("*/*/model.png")] == ["mpc-0"]
    with Image.open(next(full.glob("*/mpc-0/film.gif"))) as film:
        assert film.size == (320, 240)
        assert film.n_frames > 20


def test_the_report_comes_from_the_folders_alone(full: Path, tmp_path: Path) -> None:
    shutil.copytree(full / "mbrl-Drift-v0", tmp_path / "mbrl-Drift-v0")
    done = call("report", tmp_path)
    assert done.exit_code == 0, done.output
    for name in ("report.md", "report.html", "runs.csv"):
        assert (tmp_path / name).read_text() == (full / name).read_text()


def test_the_tables_come_from_the_csv_alone(full: Path, tmp_path: Path) -> None:
    done = call("report", full, "--csv", tmp_path / "new" / "all.csv")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "new" / "all.csv").read_text() == (full / "runs.csv").read_text()
    done = call("report", tmp_path / "new" / "all.csv")
    assert done.exit_code == 0, done.output
    text = (full / "report.md").read_text()
    for lines in done.stdout.strip().split("\n\n"):
        if lines.startswith("|"):
            assert lines in text
    assert done.stdout.count("\n| --- ") == text.count("\n| --- ") - 1  # where the time goes is in the folders


def test_mistakes_in_report_are_one_line(tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"
    file.write_text("environment,agent\nSome-v0,mpc\n")
    (tmp_path / "folder").mkdir()
    for arguments, message in (
        ([tmp_path / "none"], "there is no folder or file"),
        ([file], "has no column algorithm"),
        ([file, "--csv", tmp_path / "other.csv"], "one folder, with --csv or without it, or any number of CSV files"),
        ([tmp_path / "folder", file], "any number of CSV files"),
    ):
        done = call("report", *arguments)
        assert done.exit_code == 2, done.output
        assert message in " ".join(done.stderr.split())


def test_an_empty_folder(tmp_path: Path) -> None:
    files, text = write_report(tmp_path)
    assert {path.name for path in files} == {"report.md", "report.html", "runs.csv"}
    assert text == "# Benchmark\n\nThere is no finished run.\n"
    assert "There is no finished run." in (tmp_path / "report.html").read_text()
    assert len((tmp_path / "runs.csv").read_text().splitlines()) == 1


def test_a_partial_folder(full: Path, tmp_path: Path) -> None:
    """One run is finished, one damaged, one failed, one broken off, and one is of other settings."""
    place = tmp_path / "mbrl-Drift-v0"
    shutil.copytree(full / "mbrl-Drift-v0", place)
    (place / "mpc-1" / "curve.csv").write_text("steps\n")
    (place / "ppo-0" / "run.json").unlink()
    (place / "ppo-1" / "run.json").unlink()
    (place / "ppo-1" / "failure.txt").write_text("Traceback: <b>hot</b>")
    shutil.copytree(place / "mpc-0", place / "mpc-2")
    content = json.loads((place / "mpc-2" / "run.json").read_text())
    content["settings"] |= {"seed": 2, "steps": 70}
    (place / "mpc-2" / "run.json").write_text(json.dumps(content))
    found = collect(tmp_path)
    assert [(group.agent, len(group.runs)) for group in found.groups] == [("mpc", 1)]
    _, text = write_report(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert re.search(r"## Failed runs\n\nmbrl-Drift-v0/ppo-1:\n\n```\nTraceback: <b>hot</b>", text)
    assert "Traceback: &lt;b&gt;hot&lt;/b&gt;" in page
    for words in ("mpc-1: ", "curve.csv is not as it was written", "mbrl-Drift-v0/ppo-0", "mbrl-Drift-v0/mpc-2"):
        assert words in text
        assert words in page


def test_agents_are_compared_over_environments(tmp_path: Path) -> None:
    agents = {"ppo": document()["agents"]["ppo"]}
    agents["other"] = {**agents["ppo"], "settings": {**agents["ppo"]["settings"], "learning_rate": 1e-2}}
    suites = [small_suite("mbrl/Drift-v0", agents=agents), small_suite("mbrl/Arm-v0", agents=agents)]
    for to_do in make_plan(suites, [], 1, tmp_path).left:
        attempt(to_do)
    found = collect(tmp_path)
    ((one, other, tasks, probability),) = improvements(found)
    assert {one, other} == {"ppo", "other"}
    assert tasks == 2
    assert probability.value in (0, 0.5, 1)
    assert "| other | 2 | 2 |" in markdown(found)


def browser() -> Any:
    """Return Playwright's Chromium, or that of the system."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    playwright = api.sync_playwright().start()
    places = [
        None,
        *(found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    ]
    for place in places:
        try:
            return playwright, playwright.chromium.launch(executable_path=place, args=["--no-sandbox"])
        except api.Error:
            continue
    playwright.stop()
    pytest.skip("needs Chromium: playwright install chromium")


@pytest.mark.parametrize("width", [375, 1200])
def test_a_browser_shows_every_picture(full: Path, width: int) -> None:
    playwright, chromium = browser()
    try:
        page = chromium.new_page(viewport={"width": width, "height": 800})
        messages: list[str] = []
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda asked: messages.append(asked.url) if asked.url.startswith("http") else None)
        page.goto((full / "report.html").as_uri())
        pictures = page.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.clientWidth])")
        assert len(pictures) == 7
        for complete, natural, shown in pictures:
            assert complete
            assert natural >= 320
            assert 100 < shown <= width
        assert page.evaluate("document.documentElement.scrollWidth") <= width  # tables scroll on their own
        assert messages == []
    finally:
        chromium.close()
        playwright.stop()
