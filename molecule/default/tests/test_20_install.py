# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as others take it: from a tarball, from git, in a repository of their own; no Galaxy."""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import LAB, ROOT, Play, converge, fetch

FOR_USERS = {
    *("COPYING", "FILES.json", "MANIFEST.json", "README.md"),
    *("changelogs", "docs", "examples", "meta", "playbooks", "plugins", "roles"),
}


def galaxy(*arguments: str, cwd: Path) -> None:
    """Run ansible-galaxy collection as a user does: by Molecule's paths the checkout is installed already."""
    words = ["ansible-galaxy", "collection", *arguments]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "MOLECULE_"))}
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False, env=clean)
    assert done.returncode == 0, done.stdout + done.stderr


def unchanged(play: Play) -> bool:
    """Whether a run found both hops as an earlier one from the checkout had left them."""
    return all(play.recap(host)["changed"] == 0 for host in ("f1", "n1"))


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of what is committed."""
    path = tmp_path_factory.mktemp("clone")
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(path)], check=True)
    return path


@pytest.fixture(scope="module", autouse=True)
def converged(clone: Path) -> Iterator[None]:
    """The hosts as the clone has them before, and as the checkout has them after."""
    converge(playbook=clone / "playbooks/site.yml", cwd=clone)
    yield
    converge()


@pytest.fixture(scope="module")
def tarball(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection as `ansible-galaxy collection build` makes it."""
    out = tmp_path_factory.mktemp("tarball")
    galaxy("build", "--output-path", str(out), cwd=clone)
    return next(out.glob("sluice-ftp-*.tar.gz"))


def test_tarball_holds_only_what_a_user_needs(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        names = archive.getnames()
    assert {name.split("/")[0] for name in names} == FOR_USERS
    assert not [name for name in names if "__pycache__" in name or "collections" in name.split("/")]


def test_site_runs_by_its_name_from_the_tarball(tarball: Path, tmp_path: Path) -> None:
    galaxy("install", "--offline", str(tarball), "-p", str(tmp_path), cwd=tmp_path)
    play = converge(playbook="sluice.ftp.site", cwd=tmp_path, env={"ANSIBLE_COLLECTIONS_PATH": str(tmp_path)})
    assert unchanged(play), play.output


def test_report_runs_by_its_name_from_the_tarball(tarball: Path, tmp_path: Path) -> None:
    galaxy("install", "--offline", str(tarball), "-p", str(tmp_path), cwd=tmp_path)
    converge(playbook="sluice.ftp.report", cwd=tmp_path, env={"ANSIBLE_COLLECTIONS_PATH": str(tmp_path)})
    assert "as described" in (tmp_path / "sluice-report.html").read_text()


def test_three_lines_in_somebody_elses_repository_from_git(clone: Path, tmp_path: Path) -> None:
    galaxy("install", "--offline", f"git+file://{clone}", "-p", str(tmp_path), cwd=tmp_path)
    site = tmp_path / "site.yml"
    site.write_text(
        "- hosts: sluice\n  gather_facts: false\n  roles: [sluice.ftp.policy, sluice.ftp.proxy]\n"
    )
    play = converge(playbook=site, cwd=tmp_path, env={"ANSIBLE_COLLECTIONS_PATH": str(tmp_path)})
    assert unchanged(play), play.output


def test_example_repository_runs_as_it_stands(clone: Path, tmp_path: Path) -> None:
    infra = clone / "examples/infra"
    galaxy("install", "--offline", "-r", "requirements.yml", cwd=infra)
    # Only where the hosts are reached is the lab's: its folder would bring a path of its own along.
    hosts = (LAB.inventory / "hosts.yml").read_text()
    for host in ("f1", "n1"):
        assert f"        {host}:\n" in hosts
        hosts = hosts.replace(f"        {host}:\n", f"        {host}: {{ansible_host: {host}}}\n")
    connection = tmp_path / "connection.yml"
    connection.write_text(hosts)
    subprocess.run(["ansible-inventory", "--list"], cwd=infra, capture_output=True, check=True)
    play = converge("-i", str(connection), inventory="inventory.yml", playbook="site.yml", cwd=infra)
    assert play.recap("f1")["failed"] == 0
    assert fetch()
