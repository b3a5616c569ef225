# SPDX-License-Identifier: GPL-3.0-or-later
"""An upgrade or a downgrade is one run, and one that fails leaves the old version running (issue 3)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import F4, ROOT, S4, USER, converge, fetch, ok, playbook, refused_run, sum_of, url

ALONE = ("--limit", "f1")
SUMS = "cd /usr/local/lib/sluice/current; find . -type f -exec sha256sum {} + | sort"


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Path]:
    """A clone to change; afterwards the checkout's version runs again."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(tmp_path)], check=True)
    converge(*ALONE, playbook=tmp_path / "playbooks/site.yml", cwd=tmp_path)
    yield tmp_path
    converge(*ALONE)


def release(clone: Path, version: str) -> None:
    """Give the clone another version, wherever one stands."""
    for name in ("galaxy.yml", "roles/proxy/vars/main.yml", "roles/proxy/files/sluice/__init__.py"):
        text = (clone / name).read_text()
        assert "0.1.0" in text
        (clone / name).write_text(text.replace("0.1.0", version))


def installed() -> list[str]:
    """The version that is pointed at, then every version that is there."""
    return ok("f1", "cd /usr/local/lib/sluice; readlink current; ls --ignore current").split()


def pid() -> str:
    """The main process of the proxy."""
    return ok("f1", "systemctl show --value --property=MainPID sluice").strip()


def serving() -> set[int]:
    """The workers that take clients."""
    status = json.loads(ok("f1", "sluice --json status"))
    return {each["pid"] for each in status["workers"] if each["state"] == "serving"}


def test_upgrade_and_downgrade_are_one_run_each(other: Path) -> None:
    """And no transfer is cut: the main process stays, and the old workers finish what they have."""
    before, main = installed(), pid()
    download = f"curl --silent --limit-rate 4M --output /var/tmp/large {url(f'{USER}@{S4}', F4, 'large')}"
    ok("c1", f"rm -f /var/tmp/large; systemd-run --quiet --unit=fetch-large --remain-after-exit {download}")
    assert before[0].startswith("0.1.0-")
    release(other, "0.2.0")
    converge(*ALONE, playbook=other / "playbooks/site.yml", cwd=other)
    after = installed()
    assert after[0].startswith("0.2.0-")
    assert after[1:] == [after[0]]
    assert "sluice 0.2.0 was reloaded" in ok(
        "f1", "journalctl --unit sluice --output cat --no-pager --lines 30"
    )
    assert pid() == main
    assert fetch()
    ok("c1", "timeout 60 sh -c 'while systemctl -q is-active fetch-large && pidof curl; do sleep 0.2; done'")
    ok("c1", "systemctl stop fetch-large")
    assert sum_of("c1", "/var/tmp/large") == sum_of("s1", f"/home/{USER}/large")
    subprocess.run(["git", "checkout", "--quiet", "."], cwd=other, check=True)
    converge(*ALONE, playbook=other / "playbooks/site.yml", cwd=other)
    assert installed() == before
    assert fetch()


def test_a_version_that_does_not_start_leaves_the_old_one_running(other: Path) -> None:
    before = installed()
    release(other, "0.2.0")
    supervisor = other / "roles/proxy/files/sluice/net/supervisor.py"
    text = supervisor.read_text()
    start = "async def run(path: str) -> None:\n"
    assert start in text
    supervisor.write_text(text.replace(start, f"{start}    raise StartError('broken on purpose.')\n"))
    message = refused_run(playbook(*ALONE, playbook=other / "playbooks/site.yml", cwd=other), "f1")
    assert "The version that ran before runs again." in message
    assert "broken on purpose." in message
    assert installed()[0] == before[0]
    assert fetch()


def test_settings_that_the_proxy_refuses_replace_nothing(other: Path) -> None:
    before, running = installed(), pid()
    settings = ok("f1", "cat /etc/sluice/sluice.toml")
    template = other / "roles/proxy/templates/sluice.toml.j2"
    template.write_text(template.read_text() + "\nnonsense = 1\n")
    message = refused_run(playbook(*ALONE, playbook=other / "playbooks/site.yml", cwd=other), "f1")
    assert "nonsense" in message
    assert "Traceback" not in message
    assert (installed(), pid()) == (before, running)
    assert ok("f1", "cat /etc/sluice/sluice.toml") == settings


def test_a_run_that_died_before_the_restart_is_healed(other: Path) -> None:
    """Settings newer than the process: what a run leaves that lost its connection half way."""
    main, running = pid(), serving()
    ok("f1", "touch /etc/sluice/sluice.toml")
    converge(*ALONE, playbook=other / "playbooks/site.yml", cwd=other)
    assert not serving() & running
    running = serving()
    converge(*ALONE, playbook=other / "playbooks/site.yml", cwd=other)
    assert (pid(), serving()) == (main, running)


def test_code_that_was_changed_on_the_host_is_put_right(other: Path) -> None:
    """A changed file, and one that Python would take for its own library's, are named and go."""
    before, running = ok("f1", SUMS), serving()
    ok("f1", "cd /usr/local/lib/sluice/current; echo >>sluice/net/relay.py; echo >json.py")
    check = converge(*ALONE, "--check", "--diff", playbook=other / "playbooks/site.yml", cwd=other)
    for what in ("json.py: not of this release", "sluice/net/relay.py: another text"):
        assert what in check.output
    converge(*ALONE, playbook=other / "playbooks/site.yml", cwd=other)
    assert ok("f1", SUMS) == before
    assert not serving() & running
    play = converge(*ALONE, playbook=other / "playbooks/site.yml", cwd=other)
    assert play.recap("f1")["changed"] == 0, play.output
