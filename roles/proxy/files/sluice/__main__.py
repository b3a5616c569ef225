# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 -m sluice --config FILE [--check-config]; `python3 -m sluice.ctl` asks one that runs."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from sluice import __version__, config
from sluice.net import supervisor, worker_process
from sluice.net.loop import Loop


def main() -> int:
    """Return the exit code: 0, 1 when it cannot start, 2 when the settings are wrong."""
    parser = argparse.ArgumentParser(prog="sluice", description="The FTP proxy of sluice.ftp.")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--config", metavar="FILE", help="the settings, TOML; - reads stdin")
    parser.add_argument("--check-config", action="store_true", help="only read and validate the settings")
    parser.add_argument("--version", action="version", version=__version__)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(worker_process.run(arguments.worker))
        return 0
    if arguments.config is None:
        parser.error("the following arguments are required: --config")
    try:
        config.load(arguments.config, sys.stdin.buffer.read)
    except config.ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 2
    if arguments.check_config:
        return 0
    if os.geteuid() == 0:  # POLICY F2, PROTOCOL 10.6
        print("sluice does not run as root: start it as its own user.", file=sys.stderr)
        return 1
    try:
        asyncio.run(supervisor.run(arguments.config))
    except (supervisor.StartError, config.ConfigError) as error:
        print(f"sluice {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
