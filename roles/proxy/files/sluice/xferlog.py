# SPDX-License-Identifier: GPL-3.0-or-later
"""A transfer's record as a line of wu-ftpd's xferlog(5), for the programs that read it."""

from __future__ import annotations

import time
from collections.abc import Mapping

_DIRECTIONS = {"RETR": "o", "STOR": "i", "STOU": "i", "APPE": "i"}  # listings are no files
_ANONYMOUS = ("anonymous", "ftp")


def format_line(record: Mapping[str, str], now: time.struct_time) -> str:
    """Return the line of a transfer's record (its SLUICE_ fields); "" for one that has none.

    A file of which no byte came and that is not complete has none. `now` is the local time of the end. What
    stands for the user is a name, for an anonymous one too: its password is written nowhere (PROTOCOL 2.7).
    """
    direction = _DIRECTIONS.get(record["SLUICE_COMMAND"])
    complete = record["SLUICE_OUTCOME"] == "complete"
    if direction is None or not (complete or int(record["SLUICE_BYTES"])):
        return ""
    user = record.get("SLUICE_USER", "")
    words = (
        time.asctime(now),
        str(max(1, round(float(record["SLUICE_SECONDS"])))),  # others divide by it
        record["SLUICE_CLIENT"].rpartition(":")[0].strip("[]"),
        record["SLUICE_BYTES"],
        _one_word(record["SLUICE_FILE"]),
        "b" if record["SLUICE_TYPE"] in ("I", "L") else "a",
        "_",  # nothing was packed or unpacked
        direction,
        "a" if user.rpartition("@")[0].lower() in _ANONYMOUS or user.lower() in _ANONYMOUS else "r",
        _one_word(user),
        "ftp",
        "0",  # RFC 931 was not asked,
        "*",  # so it named nobody
        "c" if complete else "i",
    )
    return " ".join(words)


def _one_word(text: str) -> str:
    return text.replace(" ", "_") or "_"
