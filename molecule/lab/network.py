# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's network: a namespace for each host and one for management; nothing in this machine's own.

Links are made inside the namespaces, so no interface ever shows up in the machine's own network.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from plan import FORWARDS, HOSTS, LINKS, MANAGEMENT, MANAGEMENT_BRIDGE, NAMESPACES, End, Lab
from run import inside, run

ADMIN_TABLE = Path(__file__).with_name("admin_nat.nft")


def create(lab: Lab) -> None:
    """Make the whole network."""
    _add_namespace(lab.management)
    _ip(lab.management, "link add bridge type bridge")
    _ip(lab.management, f"address add {MANAGEMENT_BRIDGE}/24 dev bridge")
    _ip(lab.management, "link set bridge up")
    for host in HOSTS:
        _add_host(lab, host)
    for link in LINKS:
        _connect(lab, *link)
    for host in HOSTS:
        _route(lab, host)


def renew(lab: Lab, host: str) -> None:
    """Give the host a new namespace, as a reboot does: rules, conntrack, sysctls, addresses are gone."""
    machine = lab.machine(host)
    neighbours = [link for link in LINKS if host in (link[0].host, link[1].host)]
    for interface in ("management", *(_interface(_other(link, host)) for link in neighbours)):
        _ip(machine, f"link delete {interface}")
    _delete_namespace(machine)
    _add_host(lab, host)
    for link in neighbours:
        _connect(lab, *link)
    for end in (host, *(_other(link, host) for link in neighbours)):
        _route(lab, end)


def delete(lab: Lab) -> None:
    """Remove what is there of the lab's network, and end what still runs in its management namespace."""
    for namespace in (*(lab.machine(host) for host in HOSTS), lab.management):
        if (NAMESPACES / namespace).exists():
            for pid in run("ip", "netns", "pids", namespace).split():
                os.kill(int(pid), signal.SIGKILL)
            _delete_namespace(namespace)


def _ip(namespace: str, words: str) -> None:
    run("ip", "-netns", namespace, *words.split())


def _sysctl(namespace: str, *settings: str) -> None:
    run(*inside(namespace, "sysctl", "--quiet", "--write", *settings))


def _add_namespace(namespace: str) -> None:
    run("ip", "netns", "add", namespace)
    _sysctl(namespace, "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.default.accept_ra=0")
    _ip(namespace, "link set lo up")


def _delete_namespace(namespace: str) -> None:
    run("ip", "netns", "delete", namespace)


def _add_host(lab: Lab, host: str) -> None:
    machine = lab.machine(host)
    _add_namespace(machine)
    if host in FORWARDS:
        _sysctl(machine, "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    _ip(
        machine, f"link add management address {_mac(host)} type veth peer name {host} netns {lab.management}"
    )
    _ip(machine, f"address add {MANAGEMENT[host]}/24 dev management")
    _ip(machine, "link set management up")
    _ip(lab.management, f"link set {host} master bridge up")
    # Hosts reach the bridge, never each other past the path.
    run("bridge", "-netns", lab.management, "link", "set", "dev", host, "isolated", "on")
    if host == "n1" and not lab.returning:
        run(*inside(machine, "nft", "--file", "-"), stdin=ADMIN_TABLE.read_text())


def _connect(lab: Lab, left: End, right: End) -> None:
    near = f"{_interface(right.host)} address {_mac(left.host, right.host)}"
    far = f"{_interface(left.host)} address {_mac(right.host, left.host)} netns {lab.machine(right.host)}"
    _ip(lab.machine(left.host), f"link add {near} type veth peer name {far}")
    for end, other in ((left, right), (right, left)):
        machine, interface = lab.machine(end.host), _interface(other.host)
        for address in end.addresses:
            _ip(machine, f"address add {address} dev {interface}")
        for address in end.unlisted:
            # Deprecated: used only by who binds to it.
            _ip(
                machine,
                f"address add {address} dev {interface}" + (" preferred_lft 0" if ":" in address else ""),
            )
        _ip(machine, f"link set {interface} up")


def _route(lab: Lab, host: str) -> None:
    for destination, gateway in lab.routes(host):
        family = "-6 " if ":" in gateway else ""
        _ip(lab.machine(host), f"{family}route replace {destination} via {gateway}")


def _mac(host: str, towards: str = "") -> str:
    """A reboot changes no network card; to another one, neighbours would not talk for a minute."""
    number = HOSTS.index(towards) + 1 if towards else 0
    return f"02:00:00:00:{HOSTS.index(host) + 1:02x}:{number:02x}"


def _interface(towards: str) -> str:
    return f"to_{towards}"


def _other(link: tuple[End, End], host: str) -> str:
    return link[1].host if link[0].host == host else link[0].host


def serve_debs(lab: Lab, debs: Path) -> None:
    """Start the .deb repository on the management bridge; it ends with the namespace."""
    with (lab.state / "debs.log").open("w") as log:
        subprocess.Popen(
            inside(
                lab.management,
                *("/usr/bin/python3", "-m", "http.server", "--bind", MANAGEMENT_BRIDGE),
                *("--directory", str(debs), "80"),
            ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
