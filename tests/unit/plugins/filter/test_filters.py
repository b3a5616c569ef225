# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters through ansible itself: their documentation tells the truth, and mistakes are sentences."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.plugins.paths import changed, twenty_lines

ROOT = Path(__file__).parents[4]
OF_A_HOST = ["allowed_flows", "capacity", "flow_table", "host_needs", "nft_rules", "proxy_settings"]
OF_THE_PATH = ["flow_diagram", "path_picture", "report_page"]
FILTERS = [*OF_A_HOST, *OF_THE_PATH]
VERIFICATION = ["verification_plan", "verification_report"]
PLUGINS = "ansible_collections.sluice.ftp.plugins.filter"


def ansible(tmp_path: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this environment's ansible-core, away from the user's own settings."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "playbooks/collections"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
        "ANSIBLE_NOCOLOR": "true",
    }
    program = str(Path(sys.executable).parent / command)
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
    )
    done.stdout += done.stderr
    return done


def rendered(tmp_path: Path, expressions: dict[str, str], variables: dict[str, Any]) -> dict[str, Any]:
    """What ansible makes of expressions: the play's variables are lazy and tagged, as in real life."""
    content = "{{ {%s} | to_json }}" % ", ".join(f"'{name}': ({each})" for name, each in expressions.items())  # noqa: UP031
    out = tmp_path / "out.json"
    task = {"ansible.builtin.copy": {"content": content, "dest": str(out), "mode": "0600"}}
    play = [{"hosts": "localhost", "gather_facts": False, "vars": variables, "tasks": [task]}]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play))
    done = ansible(tmp_path, "ansible-playbook", "play.yml")
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout
    found: dict[str, Any] = json.loads(out.read_text())
    return found


@pytest.mark.parametrize("name", [*FILTERS, *VERIFICATION])
def test_the_example_says_what_comes_out(name: str, tmp_path: Path) -> None:
    text = importlib.import_module(f"{PLUGINS}.{name}").EXAMPLES
    task = yaml.safe_load(text)[0]
    shown = takewhile(str.strip, text[text.index("# ok: [localhost] =>\n") :].splitlines()[1:])
    wanted = yaml.safe_load("\n".join(each[2:] for each in shown))["msg"]
    expression = task["ansible.builtin.debug"]["msg"].strip().removeprefix("{{").removesuffix("}}")
    assert rendered(tmp_path, {"msg": expression}, task["vars"])["msg"] == wanted


def test_every_filter_gives_plain_data_from_templated_values(tmp_path: Path) -> None:
    """Values that are themselves templates arrive lazily; what goes back is what the core works out."""
    topology = changed("hops.0.name", "{{ 'F' }}")
    topology["hops"][0]["hosts"]["f1"]["client_side"] = ["{{ address }}", "2001:db8:1::1"]
    arguments = "host, mode=mode, ports=ports"
    variables = {
        "topology": topology,
        "address": "10.1.0.1",
        "host": "f1",
        "uid": "{{ '990' }}",
        "mode": {"C-F": "{{ 'both' }}", "F-N": "passive", "N-S": "active"},
        "ports": {"client_side": {"source": "{{ 20 }}"}},
    }
    found = rendered(
        tmp_path,
        {
            "flows": f"topology | sluice.ftp.allowed_flows({arguments})",
            "table": f"topology | sluice.ftp.flow_table({arguments})",
            "settings": f"topology | sluice.ftp.proxy_settings({arguments}, timeouts={{'reply': 60}})",
            "rules": "topology | sluice.ftp.nft_rules(host, uid, mode=mode, ports=ports)",
            "capacity": f"topology | sluice.ftp.capacity({arguments})",
            "needs": f"topology | sluice.ftp.host_needs({arguments}, found=['addresses '])",
            "diagram": "topology | sluice.ftp.flow_diagram(mode=mode, ports=ports)",
            "picture": "topology | sluice.ftp.path_picture(mode=mode, ports=ports, direction='down')",
            "page": "topology | sluice.ftp.report_page({'f1': {'reach': {'rc': 0}}}, mode=mode, ports=ports)",
        },
        variables,
    )
    assert [each["mode"] for each in found["flows"]] == [None, "active", "passive", None, "passive"]
    assert found["flows"][1]["opener_ports"] == ["20"]
    assert found["table"].splitlines()[0] == "F   C -> F: -> proxy user: to port 21"
    assert found["settings"]["timeouts"]["reply"] == 105
    assert found["settings"]["client_side"]["addresses"][0] == {"address": "10.1.0.1", "public": "10.1.0.1"}
    assert found["capacity"]["legs"]["F-N"] == {"passive": None}
    assert found["needs"]["capabilities"] == ["CAP_NET_BIND_SERVICE"]
    assert found["diagram"].splitlines()[1] == "    participant P0 as C<br/>10.1.0.0/24"
    assert found["picture"].count("<circle") == 7
    assert found["page"]["not_reached"] == ["n1"]
    assert any("meta skuid 990 " in rule for each in found["rules"]["chains"] for rule in each["rules"])


@pytest.mark.parametrize("name", OF_A_HOST)
def test_a_mistake_is_one_sentence(name: str, tmp_path: Path) -> None:
    uid = ", 990" if name == "nft_rules" else ""
    play = [
        {
            "hosts": "localhost",
            "gather_facts": False,
            "vars": {"topology": twenty_lines()},
            "tasks": [
                {"ansible.builtin.debug": {"msg": f"{{{{ topology | sluice.ftp.{name}('web1'{uid}) }}}}"}}
            ],
        }
    ]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play))
    done = ansible(tmp_path, "ansible-playbook", "play.yml")
    assert done.returncode != 0
    assert "sluice_topology.hops: found no host 'web1', expected one of f1, n1" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ("flow_diagram(mode='fast')", "sluice_mode: found 'fast', expected active, passive or both"),
        ("path_picture(direction='up')", "direction: found 'up', expected one of right, down"),
        ("report_page(7)", "found: found 7, expected a mapping of inventory names to what the hosts said"),
    ],
)
def test_a_mistake_about_the_whole_path_is_one_sentence(call: str, sentence: str, tmp_path: Path) -> None:
    task = {"ansible.builtin.debug": {"msg": f"{{{{ topology | sluice.ftp.{call} }}}}"}}
    play = [
        {
            "hosts": "localhost",
            "gather_facts": False,
            "vars": {"topology": twenty_lines()},
            "tasks": [task],
        }
    ]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play))
    done = ansible(tmp_path, "ansible-playbook", "play.yml")
    assert done.returncode != 0
    assert sentence in done.stdout
    assert "Traceback" not in done.stdout


def test_a_mistake_in_what_is_verified_is_one_sentence(tmp_path: Path) -> None:
    messages = {
        "topology | sluice.ftp.verification_plan({'web1': {}})": "scopes: found the unknown key 'web1'",
        "{} | sluice.ftp.verification_report({})": "expected a plan and its results",
    }
    for expression, message in messages.items():
        task = {"ansible.builtin.debug": {"msg": "{{ %s }}" % expression}}  # noqa: UP031
        play = [
            {
                "hosts": "localhost",
                "gather_facts": False,
                "vars": {"topology": twenty_lines()},
                "tasks": [task],
            }
        ]
        (tmp_path / "play.yml").write_text(yaml.safe_dump(play))
        done = ansible(tmp_path, "ansible-playbook", "play.yml")
        assert done.returncode != 0
        assert message in done.stdout
        assert "Traceback" not in done.stdout


@pytest.mark.parametrize("name", VERIFICATION)
def test_ansible_doc_shows_the_filters_of_verification(name: str, tmp_path: Path) -> None:
    done = ansible(tmp_path, "ansible-doc", "-t", "filter", f"sluice.ftp.{name}")
    assert done.returncode == 0, done.stdout
    assert "sluice.ftp.verify" in done.stdout


@pytest.mark.parametrize("name", FILTERS)
def test_ansible_doc_shows_inputs_and_result(name: str, tmp_path: Path) -> None:
    done = ansible(tmp_path, "ansible-doc", "-t", "filter", "--json", f"sluice.ftp.{name}")
    assert done.returncode == 0, done.stdout
    shown = json.loads(done.stdout[done.stdout.index("{") : done.stdout.rindex("}") + 1])[
        f"sluice.ftp.{name}"
    ]
    wanted = {"_input", "mode", "ports"} | ({"host"} if name in OF_A_HOST else set())
    assert wanted <= shown["doc"]["options"].keys()
    assert shown["return"]["_value"]["description"]
    if name == "allowed_flows":
        given = rendered(
            tmp_path, {"flows": "topology | sluice.ftp.allowed_flows('f1')"}, {"topology": twenty_lines()}
        )
        assert given["flows"][0].keys() == shown["return"]["_value"]["contains"].keys()
