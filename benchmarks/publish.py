"""Commit a benchmark: its evaluations as CSV, and what the README and docs/results/bench quote of them.

    python benchmarks/publish.py FOLDER --command "mbrl-gym bench --seeds 5 --jobs 2"

FOLDER is what `mbrl-gym bench` was given as --out; its environments replace those in docs/results/bench. Without it,
the tables are written again from the CSV files there; with --check, nothing is written and the exit code says whether
the tables are those of the files.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mbrl_gym.agents.benchmark.findings import Collection, collect, facts
from mbrl_gym.agents.benchmark.markdown import markdown_table
from mbrl_gym.agents.benchmark.published import csv_text, headline, markdown_of_csv, read_csv
from mbrl_gym.agents.benchmark.records import replacing

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "docs" / "results" / "bench"
PAGE, MADE = RESULTS / "README.md", RESULTS / "made.txt"
BEGIN = "<!-- What follows is written by benchmarks/publish.py from docs/results/bench. -->\n"
END = "<!-- End of what benchmarks/publish.py writes. -->\n"
SUMMARY = """How many environment steps and seconds of training it takes to a score of 0.9 (0 is what random actions
earn, 1 is the optimum): the best agent of this package beside Stable-Baselines3's, in brackets how many times as much.
Medians over {seeds} seeds; `>` where half of the runs or more ended without reaching it. `mpc` learns the dynamics; on
`mbrl/` tasks it is told the reward and what ends an episode, on Gymnasium's it learns these, too. Every evaluation of
every run is in {link}; the settings, and where they are from, are in
[agents/benchmark/suites]({suites}). Other programs shared the cores: seconds are upper bounds.

{table}
"""


def main() -> None:
    """Write, or check, what is committed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="of a benchmark")
    parser.add_argument("--command", default="mbrl-gym bench", help="that made it")
    parser.add_argument("--check", action="store_true", help="write nothing")
    given = parser.parse_args()
    if given.folder is not None and not given.check:
        export(collect(given.folder), given.command)
    published = read_csv(sorted(RESULTS.glob("*.csv")))
    contents = {README: readme(published, README.read_text())}
    if published.groups:
        contents[PAGE] = page(published)
    stale = [path for path, text in contents.items() if not path.exists() or path.read_text() != text]
    if given.check:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        sys.exit(f"not what docs/results/bench holds: {names}: python benchmarks/publish.py" if stale else 0)
    for path in stale:
        with replacing(path) as temporary:
            temporary.write_text(contents[path])
        print(f"wrote {path.relative_to(ROOT)}")


def export(collection: Collection, command: str) -> None:
    """Write the evaluations, a file an environment, and how they were made."""
    if not collection.groups:
        sys.exit("there is no finished run")
    for env_id in collection.env_ids:
        with replacing(RESULTS / f"{env_id.replace('/', '-')}.csv") as path:
            path.write_text(csv_text(Collection(collection.of(env_id))))
    with replacing(MADE) as path:
        path.write_text(f"Made by `{command}`, with {'; '.join(facts(collection))}.\n")
    for trouble in (*collection.damaged, *collection.unfinished, *collection.left_out, *dict(collection.failures)):
        print(f"not counted: {trouble}")


def readme(published: Collection, text: str) -> str:
    """Return the README with the table of these runs."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        sys.exit(f"README.md has no lines {BEGIN.strip()} and {END.strip()}")
    table = summary(published, "[docs/results/bench](docs/results/bench)", "agents/benchmark/suites")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def summary(published: Collection, link: str, suites: str) -> str:
    """Return the table with what its numbers mean."""
    if not published.groups:
        return "No results are published yet.\n"
    counts = sorted({len(group.runs) for group in published.groups})
    seeds = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    return SUMMARY.format(seeds=seeds, link=link, suites=suites, table=markdown_table(headline(published)))


def page(published: Collection) -> str:
    """Return docs/results/bench/README.md."""
    made = MADE.read_text() if MADE.exists() else ""
    table = summary(published, "the files beside this page", "../../../agents/benchmark/suites")
    text = f"# The benchmark\n\n{made}\n{table}\n{markdown_of_csv(published)}"
    return text + "\n`mbrl-gym report docs/results/bench/*.csv` prints these tables from the files beside this page.\n"


if __name__ == "__main__":
    main()
