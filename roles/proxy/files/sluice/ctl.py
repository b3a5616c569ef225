# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator asks of the running proxy, as `sluice status` on the host (python3 -m sluice.ctl)."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

from sluice import config

SETTINGS = "/etc/sluice/sluice.toml"
DIRECTORY = "/run/sluice"
PATIENCE = 60.0  # s; a reload waits for new workers
PROBE_PATIENCE = 330.0  # s; the proxy's own bound is 300


class NoAnswerError(Exception):
    """The proxy was not reached, or said no; the message is a sentence."""


def ask(question: dict[str, Any], door: str, patience: float | None = PATIENCE) -> Any:
    """Return the proxy's answer; `patience` in s, None for as long as it takes. Raises NoAnswerError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(patience)
            sock.connect(door)
            with sock.makefile("rwb") as stream:
                stream.write(json.dumps(question).encode() + b"\n")
                stream.flush()
                line = stream.readline()
    except FileNotFoundError:
        raise NoAnswerError(f"there is no {door}: the proxy does not run.") from None
    except PermissionError:
        raise NoAnswerError(f"you may not open {door}: ask as root, or in the proxy's group.") from None
    except TimeoutError:
        raise NoAnswerError(f"the proxy gave no answer within {patience:g} s.") from None
    except OSError as error:
        raise NoAnswerError(f"nobody answers at {door}: {error.strerror}.") from None
    if not line:
        raise NoAnswerError("the proxy closed the connection without an answer.")
    answer = json.loads(line)
    if "failed" in answer:
        raise NoAnswerError(str(answer["failed"]))
    return answer["done"]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text under their heads."""
    every = [heads, *rows]
    widths = [max(len(row[i]) for row in every) for i in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in every
    )


def show_status(status: dict[str, Any]) -> str:
    """The status for a person."""
    lines = [
        f"sluice {status['version']}, hop {status['hop']} on {status['host']}, process {status['pid']}",
        f"listening on {', '.join(status['listening']) or 'nothing: drained'}",
        *([f"intercepting {status['intercepts']}"] if status.get("intercepts") else []),
        "",
    ]
    rows = [
        [str(each.get(key, "?")) for key in ("pid", "state", "sessions", "transfers")]
        for each in status["workers"]
    ]
    return "\n".join([*lines, table(["worker", "state", "sessions", "transfers"], rows)])


def show_sessions(sessions: list[dict[str, str]]) -> str:
    """The sessions for a person, the oldest first."""
    known = any("destination" in each for each in sessions)  # where clients address the servers
    where = ("destination", "server") if known else ("server",)
    keys = ("session", "client", "user", *where, "doing", "bytes", "seconds")
    oldest = sorted(sessions, key=lambda each: -int(each["seconds"]))
    return table(keys, [[each.get(key, "") or "-" for key in keys] for each in oldest])


def show_probe(walks: list[dict[str, Any]]) -> str:
    """What a probe found for a person: each walk's steps, and in a sentence what they mean."""
    words = {True: "ok", False: "FAILS", None: "not tried"}
    parts = []
    for walk in walks:
        rows = []
        for step in walk["steps"]:
            took = "" if step["milliseconds"] is None else f"{step['milliseconds']} ms"
            rows.append([step["leg"], step["what"], words[step["ok"]], took or step["says"]])
        name = f"{walk['host']} ({walk['to']})" if walk["host"] else walk["to"]
        parts.append(f"to {name}\n{table(['leg', 'what', 'result', ''], rows)}\n{walk['verdict']}")
    return "\n\n".join(parts)


def errand(place: str, user: str) -> dict[str, str]:
    """Read what `probe` is to try; a password is asked for or comes from stdin, it is never an argument."""
    said, at, server = place.rpartition("@")
    result = {"server": server, "user": user or said} if at or user else {"server": server}
    if result.get("user", "").lower() in ("anonymous", "ftp"):
        result["password"] = "sluice@"  # noqa: S105 - any will do
    elif result.get("user"):
        asked = getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline()
        result["password"] = asked.rstrip("\r\n")
    return {key: value for key, value in result.items() if value}


def check_config(path: str) -> int:
    """Check a file of settings; 0, or 2 with a sentence for each mistake."""
    try:
        config.load(path, sys.stdin.buffer.read)
    except config.ConfigError as error:
        print("\n".join(error.problems), file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="sluice", description="Ask the FTP proxy of this host.")
    result.add_argument("--json", action="store_true", help="print the answer as JSON")
    verbs = result.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    verbs.add_parser("status", help="version, listeners, workers, sessions, transfers")
    verbs.add_parser("sessions", help="each session: client, user, server, what it does")
    kill = verbs.add_parser("kill", help="end a session at once, its transfer with a reset")
    kill.add_argument("session", metavar="ID")
    probe = verbs.add_parser("probe", help="walk the path from here to a server; say which leg fails and why")
    probe.add_argument(
        "server",
        nargs="?",
        default="",
        metavar="[USER@]SERVER",
        help="HOST, HOST:PORT or [IPv6]:PORT; none where the description fixes one",
    )
    probe.add_argument(
        "--user", default="", help="log in and try data, too; the password is asked or read from stdin"
    )
    verbs.add_parser("drain", help="take no more clients until the next reload or start")
    verbs.add_parser("reload", help="take the code and the settings on the disk, without cutting a session")
    enforce = verbs.add_parser(
        "enforce",
        help="hold the sessions of before the reload to the settings, too: transfers that these do not carry "
        "may finish within sluice_timeouts.drain, and are then reset",
    )
    enforce.add_argument("--no-wait", action="store_true", help="only say how many transfers have to finish")
    check = verbs.add_parser("check-config", help="check a file of settings")
    check.add_argument(
        "file", nargs="?", default=SETTINGS, metavar="FILE", help=f"- reads stdin ({SETTINGS})"
    )
    return result


def main() -> int:
    """Return the exit code: 0, 1 when the proxy says no or nothing or a leg fails, 2 for wrong settings."""
    arguments = parser().parse_args()
    if arguments.verb == "check-config":
        return check_config(arguments.file)
    question: dict[str, Any] = {"ask": arguments.verb}
    if arguments.verb == "kill":
        question["session"] = arguments.session
    elif arguments.verb == "probe":
        question |= errand(arguments.server, arguments.user)
    elif arguments.verb == "enforce":
        question["wait"] = not arguments.no_wait
    patience = {"probe": PROBE_PATIENCE, "enforce": None}.get(arguments.verb, PATIENCE)
    door = f"{os.environ.get('RUNTIME_DIRECTORY') or DIRECTORY}/control"
    try:
        answer = ask(question, door, patience)
    except NoAnswerError as error:
        print(f"sluice: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(answer))
    elif arguments.verb == "status":
        print(show_status(answer))
    elif arguments.verb == "sessions":
        print(show_sessions(answer))
    elif arguments.verb == "probe":
        print(show_probe(answer))
    elif arguments.verb == "enforce":
        print(f"{answer['transfers']} transfers on what the settings took away, {answer['reset']} reset")
    elif isinstance(answer, str):
        print(answer)
    return 0 if arguments.verb != "probe" or all(walk["ok"] for walk in answer) else 1


if __name__ == "__main__":
    sys.exit(main())
