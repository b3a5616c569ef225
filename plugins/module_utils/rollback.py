# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A change that goes back by itself unless it is confirmed in time (POLICY 5).

What that needs lies in a directory below /run, so that a reboot takes the change back, too: `former.nft`, the
table as it was, and `wanted.nft`, what is to be kept once it is confirmed. Whoever renames the former has the
say: the timer, which then loads it, or the confirmation, after which the timer finds nothing to load.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

RUN = Path("/run")
# nft may meet another transaction, and then says that it was busy: this one must come through.
GO_BACK = """
mv -T "$2/former.nft" "$2/going-back.nft" || exit
for try in 1 2 3 4 5; do "$1" -f "$2/going-back.nft" && exec rm -r "$2"; sleep 1; done
exit 1
"""


class RollbackError(Exception):
    """A sentence for the user."""


class Rollback:
    """The rollback of one table, `table` being its family and name."""

    def __init__(self, table: str, find: Callable[[str], str | None]) -> None:
        word = table.replace(" ", "-")
        self.directory = RUN / f"sluice.ftp.nft_table.{word}"
        self.unit = f"sluice-nft-rollback-{word}"
        self._former = self.directory / "former.nft"
        self._wanted = self.directory / "wanted.nft"
        self._find = find

    def wanted(self) -> str | None:
        """The content of a change that was neither confirmed nor taken back; None where there is none."""
        try:
            return self._wanted.read_text("utf-8")
        except FileNotFoundError:
            return None

    def pending(self) -> bool:
        """Whether a change waits for its confirmation, or is being taken back just now."""
        if not self.directory.is_dir():
            return False
        units = [f"{self.unit}.timer", f"{self.unit}.service"]
        return self._ask("systemctl", "is-active", "--quiet", *units, fails=True)

    def arm(self, nft: str, former: str, wanted: str, seconds: int) -> None:
        """From now on the former table comes back after so many seconds; raise RollbackError if it cannot."""
        shutil.rmtree(self.directory, ignore_errors=True)  # of a run that was killed
        self.directory.mkdir(mode=0o700)
        try:
            for path, content in ((self._former, former), (self._wanted, wanted)):
                path.touch(mode=0o600)
                path.write_text(content, "utf-8")
            timer = [f"--unit={self.unit}", f"--on-active={seconds}", "--timer-property=AccuracySec=100ms"]
            job = ["/bin/sh", "-c", GO_BACK, "sh", nft, str(self.directory)]
            self._ask("systemd-run", "--quiet", "--collect", *timer, *job)
        except BaseException:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise

    def armed(self) -> bool:
        """Whether the former table is still to come back."""
        return self._former.exists()

    def lost(self) -> bool:
        """Whether the timer has taken the say."""
        return (self.directory / "going-back.nft").exists()

    def claim(self) -> bool:
        """Take the say from the timer, in one step; False where the timer was first."""
        claimed = self.directory / "claimed.nft"
        try:
            self._former.rename(claimed)
        except FileNotFoundError:
            return claimed.exists()  # by a confirmation that was killed
        return True

    def clear(self) -> None:
        """Stop the timer and forget the change."""
        if self.directory.is_dir():
            self._ask("systemctl", "stop", f"{self.unit}.timer", f"{self.unit}.service", fails=True)
            shutil.rmtree(self.directory, ignore_errors=True)

    def _ask(self, tool: str, *arguments: str, fails: bool = False) -> bool:
        """Whether systemd did it, where it may fail; else RollbackError if it did not."""
        path = self._find(tool)
        if path is None:
            raise RollbackError(
                f"Found no {tool} on this host, expected systemd, whose timer takes rules back"
            )
        done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode and not fails:
            raise RollbackError(
                f"{tool} could not arm the rollback, so nothing was loaded: {done.stderr.strip()}"
            )
        return done.returncode == 0
