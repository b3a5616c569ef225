# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as a user gets it: from the tarball, from git, by name, in somebody else's repository.

The hops are converged from the checkout: each way must find nothing to change there.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support import LAB, MANAGEMENT, ROOT, Play, converge, fetch

THREE_LINES = """\
- hosts: sluice
  gather_facts: false
  roles: [sluice.ftp.policy, sluice.ftp.proxy]
"""


def _run(*command: str, cwd: Path) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "MOLECULE_"))}
    done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _nothing_changed(play: Play) -> None:
    for host in ("f1", "n1"):
        assert play.recap(host)["changed"] == 0, play.output


def _install(source: str, target: Path) -> dict[str, str]:
    _run("ansible-galaxy", "collection", "install", "--collections-path", str(target), source, cwd=target)
    return {"ANSIBLE_COLLECTIONS_PATH": str(target)}


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The collection, built."""
    folder = tmp_path_factory.mktemp("build")
    _run("ansible-galaxy", "collection", "build", "--output-path", str(folder), cwd=ROOT)
    return str(next(folder.glob("*.tar.gz")))


def test_from_tarball_by_name(tarball: str, tmp_path: Path) -> None:
    env = _install(tarball, tmp_path)
    _nothing_changed(converge(playbook="sluice.ftp.site", cwd=tmp_path, env=env))


def test_from_git_in_a_repository_of_ones_own(tmp_path: Path) -> None:
    env = _install(f"git+file://{ROOT}", tmp_path)
    (tmp_path / "firewalls.yml").write_text(THREE_LINES)
    _nothing_changed(converge(playbook=tmp_path / "firewalls.yml", cwd=tmp_path, env=env))


def test_example_repository_as_it_stands(tmp_path: Path) -> None:
    """`ansible-playbook site.yml` in a clone of examples/infra; only SSH is told where its hosts are."""
    _run("git", "clone", "--quiet", f"file://{ROOT}", str(tmp_path / "clone"), cwd=tmp_path)
    example = tmp_path / "clone/examples/infra"
    _run("ansible-galaxy", "collection", "install", "--requirements-file", "requirements.yml", cwd=example)
    config = tmp_path / "ssh_config"
    hosts = (("192.0.2.11", "f1"), ("192.0.2.12", "n1"))
    config.write_text(
        "".join(f"Host {at}\n HostName {MANAGEMENT[host]}\n HostKeyAlias {host}\n" for at, host in hosts)
        + f"Host *\n Include {LAB.ssh_config}\n"
    )
    env = {
        "ANSIBLE_SSH_COMMON_ARGS": f"-F {config}",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(tmp_path / "control"),
    }
    try:
        play = converge(playbook="site.yml", inventory="inventory.yml", cwd=example, env=env)
        assert play.recap("f1")["changed"] > 0, "its path is another one than the lab's"
        assert fetch(command="PASV")
        _nothing_changed(converge(playbook="site.yml", inventory="inventory.yml", cwd=example, env=env))
    finally:
        converge()
