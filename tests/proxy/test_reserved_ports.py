# SPDX-License-Identifier: GPL-3.0-or-later
"""F14: the proxy's ranges are kept from the kernel's own choice, beside what an admin has reserved already.

Runs in a network and mount namespace of its own: this machine's list is not touched.
"""

from __future__ import annotations

import os
import subprocess

import pytest

from .harness import PYTHON, Site, changed, last_hop, toml

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a namespace of its own needs root")

LIST = "/proc/sys/net/ipv4/ip_local_reserved_ports"


@pytest.fixture
def script(site: Site) -> str:
    """The start of a shell script: `merge` and `remove` for one proxy, `now` shows the list."""
    file = site.directory / "reserved.toml"
    net = site.net()
    metrics = {"address": net.n_server, "port": 40000, "peers": [f"{net.client}/32"]}
    changes = {"client_side.source": "25000", "timeouts.idle": 900, "metrics": metrics}
    file.write_text(toml(changed(last_hop(net), changes)))
    return f"""
        set -eu
        mount -t tmpfs tmpfs /run
        export PYTHONPATH={site.package}
        merge() {{ {PYTHON} -sP -m sluice.reserved_ports merge --config {file}; }}
        remove() {{ {PYTHON} -sP -m sluice.reserved_ports remove --config {file}; }}
        now() {{ echo "$(cat {LIST})"; }}
    """


def run(script: str) -> list[str]:
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


OURS = "24000-24019,25000,26000-26019,27000-27019,40000"


def test_f14_merge_and_remove_on_an_empty_list(script: str) -> None:
    assert run(f"{script}\nnow; merge; now; merge; now; remove; now; remove; now") == ["", OURS, OURS, "", ""]


def test_f14_an_admins_own_list_stays(script: str) -> None:
    """What overlaps was there before us and stays after us."""
    assert run(f"{script}\necho 8080,24010-24012,27019-27025 > {LIST}; merge; now; remove; now") == [
        "8080,24000-24019,25000,26000-26019,27000-27025,40000",
        "8080,24010-24012,27019-27025",
    ]


def test_f14_what_an_admin_adds_meanwhile_stays(script: str) -> None:
    more = f'echo "$(cat {LIST}),9090" > {LIST}'
    assert run(f"{script}\necho 8080 > {LIST}; merge; {more}; now; remove; now") == [
        f"8080,9090,{OURS}",
        "8080,9090",
    ]


def test_f14_without_a_merge_there_is_nothing_to_remove(script: str) -> None:
    assert run(f"{script}\necho 8080,24000 > {LIST}; remove; now") == ["8080,24000"]
