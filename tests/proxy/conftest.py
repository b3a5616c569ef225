# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the black-box tests: paths of one proxy and of two."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .harness import Path, Paths, Site


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture(scope="session")
def shared_paths(site: Site) -> Iterator[Paths]:
    paths = Paths(site)
    yield paths
    paths.close()


@pytest.fixture
def paths(shared_paths: Paths) -> Iterator[Paths]:
    """Paths with settings of the test's choice; checked and tidied after the test."""
    yield shared_paths
    shared_paths.after_test()


@pytest.fixture
def one(paths: Paths) -> Path:
    """C - N - S with the usual settings: both modes on both legs, one fixed server."""
    return paths.one()


@pytest.fixture(params=["one proxy", "two proxies"])
def path(request: pytest.FixtureRequest, paths: Paths) -> Path:
    """C - N - S, and C - F - N - S: what one proxy does, two in series do, resets above all (6.5)."""
    return paths.one() if request.param == "one proxy" else paths.two()
