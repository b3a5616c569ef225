# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's page (issue 4, "To look at"): what it says of the lab, and how a browser shows it."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest
from support import C4, F4, ROOT, UNLISTED_C4, Play, converge, fetch, on, playbook

REPORT = ROOT / "playbooks/report.yml"
NAME = "sluice-report.html"

# Runs in a copy of the page: what is seen, how wide it is, which texts of a picture lie on one another.
MEASURE = """<script>
addEventListener("load", () => {
  const root = document.documentElement, on = [];
  const texts = [...document.querySelectorAll("svg text")].filter((each) => each.getClientRects().length);
  const areas = texts.map((each) => each.getBoundingClientRect());
  for (let i = 0; i < texts.length; i++) for (let j = i + 1; j < texts.length; j++) {
    const [a, b] = [areas[i], areas[j]];
    if (a.left + 1 < b.right && b.left + 1 < a.right && a.top + 1 < b.bottom && b.top + 1 < a.bottom)
      on.push(texts[i].textContent + " / " + texts[j].textContent);
  }
  const seen = ["right", "down"].filter((each) => document.querySelector("." + each).offsetWidth > 0);
  parent.postMessage(JSON.stringify({text: document.body.innerText, client: root.clientWidth,
    scroll: root.scrollWidth, on, seen, texts: texts.map((each) => each.textContent)}), "*");
});
</script>"""
FRAME = """<!DOCTYPE html><meta charset="utf-8"><pre id="out"></pre>
<script>
addEventListener("message", (event) => document.getElementById("out").textContent = event.data)
</script>
<iframe src="{page}" style="width:{width}px;height:900px;border:0"></iframe>"""


def report(folder: Path, *arguments: str) -> Play:
    """Run the playbook as a user does, in a folder of their own."""
    return converge(*arguments, playbook=REPORT, cwd=folder)


def browser(folder: Path, *arguments: str) -> str:
    """Debian's Chromium, without a window; returns what it prints."""
    words = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    words += ["--hide-scrollbars", "--virtual-time-budget=5000", f"--user-data-dir={folder / 'profile'}"]
    clean = {key: each for key, each in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    done = subprocess.run(
        [*words, *arguments], capture_output=True, text=True, check=True, timeout=120, env=clean
    )
    return done.stdout


def shown(folder: Path, page: Path, width: int) -> dict[str, Any]:
    """What the browser makes of the page in so many pixels."""
    copy = folder / "copy.html"
    copy.write_text(page.read_text().replace("</body>", f"{MEASURE}</body>"))
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(page=copy.name, width=width))
    dom = browser(folder, "--dump-dom", frame.as_uri())
    found: dict[str, Any] = json.loads(
        html.unescape(dom.partition('<pre id="out">')[2].partition("</pre>")[0])
    )
    return found


def of_host(text: str, host: str) -> str:
    """The page's section of a host."""
    return re.split(r"^(?:F|N) (?:f1|n1)$", text, flags=re.MULTILINE)[1 if host == "f1" else 2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    """The page after a session in either mode, and after a client that the path does not name was refused."""
    assert fetch(command="EPSV")
    assert fetch(command="PORT")
    assert on("c1", f"nc -w 1 -s {UNLISTED_C4} {F4} 21 </dev/null").returncode != 0
    play = report(folder)
    assert play.recap("n1")["changed"] == 0, "hosts are only read"
    assert play.recap("f1")["changed"] == 1, "the page itself, which its first host writes"
    assert (folder / NAME).stat().st_mode & 0o777 == 0o644
    return folder / NAME


@pytest.fixture(scope="module")
def wide(folder: Path, page: Path) -> dict[str, Any]:
    return shown(folder, page, 1280)


@pytest.fixture(scope="module")
def narrow(folder: Path, page: Path) -> dict[str, Any]:
    return shown(folder, page, 390)


def test_the_flows_stand_there_with_what_they_counted(wide: dict[str, Any]) -> None:
    text = of_host(wide["text"], "f1")
    for words in (
        r"C -> F: -> proxy user: to port 21\s+any\s+21",
        r"C <- F: <- proxy user: to port specified by C\s+\(active\)\s+51000-51999\s+1024-65535",
        r"C -> F: -> proxy user: to port specified by proxy user\s+\(passive\)\s+any\s+50000-50999",
    ):
        found = re.search(words + r"\s+([0-9,]+)\s+([0-9,]+)", text)
        assert found, text
        opened, packets = (int(each.replace(",", "")) for each in found.groups())
        assert 1 <= opened < packets, words


def test_what_was_refused_is_told(wide: dict[str, Any]) -> None:
    found = re.search(r"not a flow: to a proxy port\s+guard_in\s+([0-9,]+)", of_host(wide["text"], "f1"))
    assert found
    assert int(found[1].replace(",", "")) >= 1


def test_state_capacity_and_versions_stand_there(wide: dict[str, Any]) -> None:
    for host in ("f1", "n1"):
        text = of_host(wide["text"], host)
        release = on(host, "readlink /usr/local/lib/sluice/current").stdout.strip()
        kernel = on(host, "uname -r").stdout.strip()
        nft = on(host, "/usr/sbin/nft --version").stdout.split()[1]
        for words in ("as described", "active since ", "guard", release, kernel, nft, "Debian GNU/Linux"):
            assert words in text, words
        assert re.search(r"client_side.listen\s+50000-50999\s+listens for passive data.*\s1,000$", text, re.M)


def test_the_picture_is_that_of_the_flows(wide: dict[str, Any]) -> None:
    assert wide["seen"] == ["right"]
    for words in ("F-N", "f1", C4.rpartition(".")[0] + ".0/25", "50000-50999", "53000-53999"):
        assert words in wide["texts"]
    assert [wide["texts"].count(each) for each in ("control", "active", "passive")] == [3, 3, 3]


def test_nothing_lies_on_anything_else(wide: dict[str, Any], narrow: dict[str, Any]) -> None:
    assert (wide["on"], narrow["on"]) == ([], [])
    assert len(narrow["texts"]) > 30


def test_a_phone_shows_it_without_scrolling_sideways(narrow: dict[str, Any]) -> None:
    assert narrow["client"] == 390
    assert narrow["scroll"] == 390
    assert narrow["seen"] == ["down"]
    assert "C -> F: -> proxy user: to port 21" in narrow["text"]


def test_it_is_painted(folder: Path, page: Path) -> None:
    """A picture of it in a file has many kinds of bytes; a blank one has next to none."""
    picture = folder / "page.png"
    browser(folder, "--window-size=1280,1600", f"--screenshot={picture}", page.as_uri())
    data, at, packed = picture.read_bytes(), 8, b""
    while at < len(data):
        size = int.from_bytes(data[at : at + 4])
        packed += data[at + 8 : at + 8 + size] if data[at + 4 : at + 8] == b"IDAT" else b""
        at += size + 12
    pixels = zlib.decompress(packed)
    assert len(set(pixels)) > 200
    assert sum(each != 0 for each in pixels) > 100_000


def test_it_prints_a_sheet_for_the_path_and_one_for_each_host(folder: Path, page: Path) -> None:
    target = folder / "page.pdf"
    browser(folder, f"--print-to-pdf={target}", page.as_uri())
    assert len(re.findall(rb"/Type\s*/Page\b", target.read_bytes())) == 3


@pytest.fixture
def away(tmp_path: Path) -> Path:
    """An inventory beside the lab's that sends Ansible astray on its way to N."""
    inventory = tmp_path / "astray.yml"
    inventory.write_text("all: {hosts: {n1: {ansible_host: astray.invalid}}}\n")
    return inventory


def test_a_host_that_is_away_is_told(folder: Path, tmp_path: Path, away: Path) -> None:
    report(tmp_path, "-i", str(away))
    text = shown(folder, tmp_path / NAME, 1280)["text"]
    assert "not reached" in of_host(text, "n1")
    assert "astray.invalid" in of_host(text, "n1")
    assert "S <- N: <- proxy user: to port 21" in of_host(text, "n1"), "what it has to allow is known"
    assert "as described" in of_host(text, "f1")


def test_all_hosts_away_still_make_a_page(tmp_path: Path, away: Path) -> None:
    away.write_text(
        "all: {hosts: {n1: {ansible_host: astray.invalid}, f1: {ansible_host: astray.invalid}}}\n"
    )
    report(tmp_path, "-i", str(away))
    assert (tmp_path / NAME).read_text().count("not reached") >= 4


def test_a_part_of_the_hosts(tmp_path: Path) -> None:
    play = report(tmp_path, "--limit", "n1", "-e", f"sluice_report_file={tmp_path}/part.html")
    assert play.recap("n1")["changed"] == 1
    assert "not part of this run" in (tmp_path / "part.html").read_text()


def test_check_mode_asks_and_writes_nothing(tmp_path: Path) -> None:
    report(tmp_path, "--check", "--diff")
    assert not (tmp_path / NAME).exists()


def test_rules_that_are_gone_or_edited_are_told(tmp_path: Path) -> None:
    try:
        assert on("f1", "nft add rule inet sluice forward tcp dport 2323 drop").returncode == 0
        assert on("n1", "nft delete table inet sluice").returncode == 0
        report(tmp_path)
        text = (tmp_path / NAME).read_text()
        assert "no rules loaded" in text
        assert "not as described" in text
        assert re.search(r"^-\s+tcp dport 2323 drop$", text, re.MULTILINE)
    finally:
        for host in ("f1", "n1"):
            assert on(host, "systemctl reload sluice-policy").returncode == 0


def test_a_mistake_in_the_description_is_one_sentence(tmp_path: Path) -> None:
    play = playbook("-e", "sluice_mode=fast", playbook=REPORT, cwd=tmp_path)
    assert play.code != 0
    assert "sluice_mode: found 'fast', expected active, passive or both" in play.output
    assert "Traceback" not in play.output
