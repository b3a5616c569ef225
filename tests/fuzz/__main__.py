# SPDX-License-Identifier: GPL-3.0-or-later
"""`make fuzz`: atheris looks for an input that breaks what targets.py feeds; exit 1 when it found one.

With file names it feeds those alone, without atheris: to see a finding again.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT = Path(__file__).parents[2]
SEEDS = ROOT / "tests/fuzz/corpus"
WORDS = ROOT / "tests/fuzz/words.dict"
WORK = ROOT / ".cache/fuzz"
CORPUS = WORK / "corpus"  # what was learned; stays from run to run
LOG = WORK / "log"
LONGEST = 20  # s for one input: more is a hang
MEMORY = 1024  # MiB
LENGTH: Final = 4096  # bytes of one input


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    arguments.add_argument("--seconds", type=int, default=600, help="how long to look")
    arguments.add_argument("files", nargs="*", type=Path, help="inputs to feed, instead of looking")
    chosen = arguments.parse_args()
    if chosen.files:
        from tests.fuzz.targets import feed

        for file in chosen.files:
            feed(file.read_bytes())
        return 0
    if importlib.util.find_spec("atheris") is None:
        print("There is no fuzzing: atheris is not installed, and there is none for this machine.")
        return 0
    return look(chosen.seconds)


def look(seconds: int) -> int:
    """Run atheris in a process of its own, which libFuzzer ends; say in a sentence what it found."""
    CORPUS.mkdir(parents=True, exist_ok=True)
    known = set(WORK.glob("*-*"))
    options = {
        "max_total_time": seconds,
        "timeout": LONGEST,
        "rss_limit_mb": MEMORY,
        "max_len": LENGTH,
        "dict": WORDS,
        "artifact_prefix": f"{WORK}/",
        "print_final_stats": 1,
        "verbosity": 1,
    }
    flags = [f"-{key}={value}" for key, value in options.items()]
    with LOG.open("wb") as log:
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.fuzzer", *flags, str(CORPUS), str(SEEDS)],
            cwd=ROOT,
            stdout=log,
            stderr=log,
            check=False,
        )
    found = sorted(set(WORK.glob("*-*")) - known)
    if not done.returncode and not found:
        said = [line.split() for line in LOG.read_text("utf-8", "replace").splitlines()]
        fed = next((words[1] for words in said if words[:1] == ["stat::number_of_executed_units:"]), "?")
        print(f"The fuzzer fed {fed} inputs in {seconds} s and found nothing.")
        return 0
    for file in found:
        print(
            f"{file.relative_to(ROOT)}: found an input that breaks the proxy, expected none; "
            f"see {LOG.relative_to(ROOT)}, and again with: python -m tests.fuzz {file.relative_to(ROOT)}"
        )
    if not found:
        print(f"{LOG.relative_to(ROOT)}: the fuzzer ended with {done.returncode}, expected 0.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
