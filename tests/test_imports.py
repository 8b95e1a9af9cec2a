"""The import rules of the design, asserted over the sources and in fresh interpreters."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import mbrl_gym

ROOT = Path(mbrl_gym.__file__).parents[1]
PACKAGES = {"mbrl_gym": ROOT / "mbrl_gym", "mbrl_gym.agents": ROOT / "agents"}
SOURCES = {
    ".".join((package, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__"): path
    for package, folder in PACKAGES.items()
    for path in sorted(folder.rglob("*.py"))
}


def imports(source: str, module: str, *, is_package: bool = False) -> set[str]:
    """Return the dotted names that a module imports anywhere, functions and TYPE_CHECKING blocks included.

    `from a import b` counts as `a.b`, since b may be a module; relative names are made absolute.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".") if is_package else module.split(".")[:-1]
            parts = parts[: len(parts) - node.level + 1] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            found |= {arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    return found


def imports_of(module: str) -> set[str]:
    path = SOURCES[module]
    return imports(path.read_text(), module, is_package=path.name == "__init__.py")


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def offenders(where: str, *forbidden: str, but: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """Return (module, import) pairs of the modules within `where` that import something forbidden."""
    modules = [module for module in SOURCES if within(module, where) and not within(module, *but)]
    assert modules, where
    return [(module, name) for module in modules for name in imports_of(module) if within(name, *forbidden)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import torch.nn as nn", {"torch.nn"}),
        ("from torch import nn, Tensor", {"torch.nn", "torch.Tensor"}),
        ("def f():\n    if True:\n        import torch", {"torch"}),
        ("from . import b", {"p.q.b"}),
        ("from .b import c", {"p.q.b.c"}),
        ("from ..envs import c", {"p.envs.c"}),
        ("import importlib\nimportlib.import_module('agents.mpc')", {"importlib", "agents.mpc"}),
        ("x = 'import torch'", set()),
    ],
)
def test_the_reader_sees_every_kind_of_import(source, expected):
    assert imports(source, "p.q.a") == expected
    as_package = imports("from .b import c\nfrom ..d import e", "p.q", is_package=True)
    assert as_package == {"p.q.b.c", "p.d.e"}


def test_all_sources_are_read():
    assert {
        "mbrl_gym",
        "mbrl_gym.envs.task",
        "mbrl_gym.envs.rendering.canvas",
        "mbrl_gym.models.ensemble",
        "mbrl_gym.agents",
        "mbrl_gym.agents.planning.shooting",
    } <= set(SOURCES)


def test_environments_import_neither_torch_nor_models():
    assert not offenders("mbrl_gym.envs", "torch", "mbrl_gym.models", "mbrl_gym.wrappers", "stable_baselines3")


def test_models_import_no_environments():
    assert not offenders("mbrl_gym.models", "mbrl_gym.envs", "mbrl_gym.wrappers", "stable_baselines3")


def test_the_package_never_imports_its_agents():
    assert not offenders("mbrl_gym", "mbrl_gym.agents", but=("mbrl_gym.agents", "mbrl_gym.__main__"))


def test_planners_import_the_model_contract_only():
    allowed = (
        "mbrl_gym.models.base",
        "mbrl_gym.noise",
        "mbrl_gym.errors",
        "mbrl_gym.agents.planning",
        "mbrl_gym.agents.compiled",  # numba's decorator, and nothing else
        "numba",
        "torch",
        "gymnasium",
        "numpy",
        *sys.stdlib_module_names,
    )
    modules = [module for module in SOURCES if within(module, "mbrl_gym.agents.planning")]
    assert len(modules) >= 3
    assert not [(module, name) for module in modules for name in imports_of(module) if not within(name, *allowed)]


def test_agents_do_not_reach_into_environments():
    assert not offenders("mbrl_gym.agents", "mbrl_gym.envs", but=("mbrl_gym.agents.benchmark", "mbrl_gym.agents.cli"))


def test_inside_agents_own_imports_are_relative():
    absolute = []
    for module, path in SOURCES.items():
        if within(module, "mbrl_gym.agents"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level:
                    names = [f"{node.module}.{alias.name}" for alias in node.names]
                absolute += [(module, name) for name in names if within(name, "mbrl_gym.agents")]
    assert not absolute


def test_nobody_imports_the_folder_by_its_own_name():
    folders = ("mbrl_gym", "agents", "tests", "examples", "benchmarks", "docs")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(paths) > len(SOURCES)
    assert not [path for path in paths if any(within(name, "agents") for name in imports(path.read_text(), "x.y"))]


# Needs rl_zoo3, which changes Gymnasium when it is imported: tests/agents/test_zoo.py imports it elsewhere.
APART = ("mbrl_gym.agents.zoo",)


@pytest.mark.parametrize("module", [m for m in SOURCES if not m.endswith("__main__") and m not in APART])
def test_every_exported_name_resolves(module):
    imported = importlib.import_module(module)
    assert Path(imported.__file__) == SOURCES[module]
    names = getattr(imported, "__all__", [])
    assert len(set(names)) == len(names)
    assert not [name for name in names if not hasattr(imported, name)]


def test_packages_export_something():
    for package in ("mbrl_gym", "mbrl_gym.envs", "mbrl_gym.models", "mbrl_gym.agents", "mbrl_gym.agents.planning"):
        assert importlib.import_module(package).__all__


def run(code: str) -> dict:
    """Run code in a fresh interpreter and return the JSON it prints last."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout.splitlines()[-1])


HEAVY = ("torch", "pygame", "matplotlib", "stable_baselines3")


def test_importing_the_package_loads_nothing_heavy_and_costs_little():
    code = (
        "import json, sys, time\nimport gymnasium\n"
        "begin = time.perf_counter()\nimport mbrl_gym\nseconds = time.perf_counter() - begin\n"
        f"print(json.dumps({{'seconds': seconds, 'loaded': [m for m in {HEAVY} if m in sys.modules]}}))"
    )
    runs = [run(code) for _ in range(3)]
    assert all(each["loaded"] == [] for each in runs)
    assert min(each["seconds"] for each in runs) < 0.3


def test_environments_step_without_torch_and_without_pygame():
    code = (
        "import json, sys\nimport gymnasium\nimport mbrl_gym\nimport mbrl_gym.envs\n"
        "for env_id in mbrl_gym.env_ids():\n"
        "    for env in (gymnasium.make(env_id), gymnasium.make_vec(env_id, num_envs=2)):\n"
        "        env.reset(seed=0)\n        env.step(env.action_space.sample())\n        env.close()\n"
        f"print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    )
    assert run(code) == []


def test_importing_models_loads_neither_environments_nor_agents():
    code = (
        "import json, sys\nimport mbrl_gym.models\n"
        "wrong = ('mbrl_gym.envs', 'mbrl_gym.agents', 'stable_baselines3', 'pygame')\n"
        "print(json.dumps([m for m in wrong if m in sys.modules]))"
    )
    assert run(code) == []
