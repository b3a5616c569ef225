# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The controller's half of nft_table: what was loaded is confirmed over a new connection, or the task fails.

One task does all of it, so that no other host of the play, slow or locked out, delays the confirmation.
"""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

GRACE = 15  # seconds after the rollback in which the host has to be reachable again


class ActionModule(ActionBase):  # type: ignore[misc]
    """Runs the module, and while it leaves a change pending, runs it again over a new connection."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        variables = task_vars or {}
        armed = (
            self._task.args.get("rollback_seconds") and self._task.args.get("state", "present") == "present"
        )
        try:
            loaded: dict[str, Any] = self._execute_module(task_vars=variables)
        except AnsibleConnectionFailure:
            if not armed or self._task.check_mode:
                raise
            loaded = {"pending": True}  # the new rules may have cut this very connection
        if not loaded.get("pending"):
            return loaded
        seconds = int(self._task.args["rollback_seconds"])
        confirmed = self._confirm(seconds, variables)
        if confirmed.get("rolled_back"):
            host = variables.get("inventory_hostname")
            table = f"{self._task.args.get('family', 'inet')} {self._task.args['name']}"
            confirmed["msg"] = (
                f"{host}: the new rules of table {table} could not be confirmed over a new connection within "
                f"{seconds} s of loading them, so the former rules are in force again, now and at the next "
                "boot; expected the new rules to let Ansible in."
            )
        elif confirmed.get("failed"):
            confirmed["msg"] = (
                f"{confirmed.get('msg', '')} Unless confirmed, the rules go back within {seconds} s."
            )
        if confirmed.get("failed"):
            return confirmed
        return {**confirmed, **loaded, "changed": True, "pending": False, "written": confirmed["written"]}

    def _confirm(self, seconds: int, variables: dict[str, Any]) -> dict[str, Any]:
        """The result of the confirmation; AnsibleConnectionFailure where the host stays away."""
        arguments = {**self._task.args, "state": "confirmed"}
        deadline = time.monotonic() + seconds + GRACE
        while True:
            try:
                # Over a connection that is kept open nothing would be proved (POLICY 5).
                self._connection.reset()
                result: dict[str, Any] = self._execute_module(module_args=arguments, task_vars=variables)
            except AnsibleError as exc:  # a slow sudo is no AnsibleConnectionFailure to core 2.16
                if time.monotonic() > deadline:
                    raise AnsibleConnectionFailure(
                        f"No answer for {seconds + GRACE} s since new rules were to be loaded, "
                        f"though by then the former ones are back where the host is up: {exc}"
                    ) from exc
            else:
                return result
            time.sleep(1)
