# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths on which connections are intercepted: C, one or two hops, S in network namespaces (PROTOCOL 9).

The rules are written here as POLICY 2 has them, not by the product: what the kernel needs to hand connections
over, and no control connection past a proxy. What else a host refuses is no matter of these tests.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path as File
from typing import Any

from .harness import Proxy, Settings, Site

sys.path.insert(0, str(File(__file__).parents[2]))

from tests.policy.network import Namespace, Network, Node

CLIENT = {4: "10.1.0.2", 6: "2001:db8:1::2"}
SERVER = {4: "192.0.2.9", 6: "2001:db8:9::9"}
FAKE = {4: "192.0.2.11", 6: "2001:db8:9::b"}
"""Another one, for the server of which a test decides every move."""
UNINVOLVED = {4: "192.0.2.10", 6: "2001:db8:9::a"}
"""Another one, which nobody has a control connection with."""
OUTSIDE = {4: "203.0.113.9", 6: "2001:db8:a::9"}
"""One that the rules hand over, and that the settings do not allow."""
NEAR = {"F": {4: "10.1.0.1", 6: "2001:db8:1::1"}, "N": {4: "10.2.0.2", 6: "2001:db8:2::2"}}
FAR = {"F": {4: "10.2.0.1", 6: "2001:db8:2::1"}, "N": {4: "198.51.100.2", 6: "2001:db8:3::2"}}
SERVERS = {4: "192.0.2.0/24", 6: "2001:db8:9::/64"}
LISTEN = {"F": "50000-50019", "N": "50100-50119"}
SOURCE = {"F": "20", "N": "51100-51119"}
CONTROL = 21  # of the servers and of explicit hops
NOT_CONTROL = 2100
"""A port that the rules hand over, and that the settings do not allow."""
INTERCEPT = 2121
HANDED_OVER = f"{{ {CONTROL}, {NOT_CONTROL} }}"
MARK, TABLE = 0x51CE, 21021

KINDS = ("explicit", "redirect", "tproxy", "client")
"""What a hop may be; `client` is tproxy with the client's own address towards the next hop."""


@dataclass(frozen=True)
class Hop:
    """One of KINDS, by its place."""

    name: str
    kind: str

    @property
    def intercepts(self) -> str:
        """As the settings have it, "" where it is explicit."""
        return {"explicit": "", "client": "tproxy"}.get(self.kind, self.kind)


class Way:
    """A running path; `place` gives each namespace."""

    def __init__(self, site: Site, kinds: Sequence[str]) -> None:
        self.hops = [Hop(name, kind) for name, kind in zip("FN", kinds, strict=False)]
        servers = [address for each in (SERVER, FAKE, UNINVOLVED, OUTSIDE) for address in each.values()]
        row = [
            Node("C", tuple(CLIENT.values())),
            *(Node(h.name, (*NEAR[h.name].values(), *FAR[h.name].values())) for h in self.hops),
            Node("S", tuple(servers)),
        ]
        self.proxies: dict[str, Proxy] = {}
        with ExitStack() as stack:
            self._network = stack.enter_context(Network(row))
            for namespace in self._network.namespaces.values():
                with namespace.inside():  # ports 20 and 21 without a capability: of these the tests are not
                    File("/proc/sys/net/ipv4/ip_unprivileged_port_start").write_text("0")
            for at in reversed(range(len(self.hops))):
                hop = self.hops[at]
                self.set_up(hop, self.near(at), self.behind(at))
                capability = "net_raw" if hop.intercepts == "tproxy" else ""
                with self.place(hop.name).inside():
                    self.proxies[hop.name] = Proxy(site, self.settings(at), capability=capability)
                stack.callback(self.proxies[hop.name].stop)
            self._stack = stack.pop_all()

    def close(self) -> None:
        self._stack.close()

    def place(self, name: str) -> Namespace:
        return self._network.namespaces[name]

    @property
    def first(self) -> Proxy:
        return self.proxies["F"]

    @property
    def last(self) -> Proxy:
        return self.proxies[self.hops[-1].name]

    def check(self) -> None:
        """What holds after every test: each proxy lives, and its stderr holds records only, no traceback."""
        for proxy in self.proxies.values():
            assert proxy.alive(), proxy.noise
            assert proxy.noise == []
            assert not any("internal error" in str(record) for record in proxy.log)

    # --- what the description would give -----------------------------------------------------------

    def near(self, at: int) -> list[str]:
        """Whom the hop sees on its client side."""
        if at == 0 or self.hops[at - 1].kind == "client":
            return list(CLIENT.values()) if at == 0 else self.near(at - 1)
        return list(FAR[self.hops[at - 1].name].values())

    def behind(self, at: int) -> list[str]:
        """Whom it sees on its server side."""
        follows = self.hops[at + 1] if at + 1 < len(self.hops) else None
        hosts = list(NEAR[follows.name].values()) if follows and follows.kind != "tproxy" else []
        return hosts if follows and follows.kind == "explicit" else [*hosts, *SERVERS.values()]

    def settings(self, at: int) -> Settings:
        """The proxy's settings for the hop at this position."""
        hop = self.hops[at]
        follows = self.hops[at + 1] if at + 1 < len(self.hops) else None
        told = follows is not None and not follows.intercepts
        client: dict[str, Any] = {
            **_side(NEAR[hop.name], f"{self.hops[at - 1].name if at else 'C'}-{hop.name}"),
            "neighbour": self.hops[at - 1].name if at else "C",
            "peers": [f"{each}/{ip_address(each).max_prefixlen}" for each in self.near(at)],
            "control_port": INTERCEPT if hop.intercepts else CONTROL,
            "listen": LISTEN[hop.name],
            "source": SOURCE[hop.name],
        }
        if hop.intercepts:
            client["intercept"] = hop.intercepts
            client["destinations"] = list(SERVERS.values())
            client["destination_ports"] = [CONTROL]
        neighbour = follows.name if follows else "S"
        server: dict[str, Any] = {
            **_side(FAR[hop.name], f"{hop.name}-{neighbour}"),
            "neighbour": neighbour,
            "listen": "52000-52019",
            "source": "53000-53019",
        }
        if hop.kind == "client":
            server["client_source"] = True
        if follows:
            server["peer_ports"] = LISTEN[follows.name]
        if follows and follows.kind == "redirect":
            addresses = NEAR[follows.name].values()
            server["data_networks"] = [f"{each}/{ip_address(each).max_prefixlen}" for each in addresses]
        settings: Settings = {"hop": hop.name, "host": "h", "client_side": client, "server_side": server}
        if told:
            hosts = [{"name": "h", "addresses": list(NEAR[neighbour].values())}]
            settings["next_hop"] = {"hosts": hosts, "control_port": CONTROL}
            if hop.intercepts:
                settings["next_hop"]["user_at_host"] = True
        else:
            settings["servers"] = {"networks": list(SERVERS.values()), "control_ports": [CONTROL]}
        settings["timeouts"] = {"connect": 2, "greeting": 2, "data_connect": 3, "data_idle": 20, "reply": 20}
        settings["workers"] = 1
        return settings

    def set_up(self, hop: Hop, near: Sequence[str], behind: Sequence[str]) -> None:
        """Load the rules of a hop, and for tproxy its routing (POLICY 2)."""
        place = self.place(hop.name)
        if not hop.intercepts:
            return
        place.run("nft", "-f", "-", stdin=rules(hop, near, behind))
        if hop.intercepts == "tproxy":
            devices = ["left0", "right0"] if hop.kind == "client" else ["left0"]
            for family in ("-4", "-6"):
                place.run(
                    "ip", family, "route", "replace", "local", "default", "dev", "lo", "table", str(TABLE)
                )
                for device in devices:
                    place.run(
                        "ip", family, "rule", "add", "priority", str(TABLE), "fwmark", hex(MARK),
                        "iif", device, "lookup", str(TABLE),
                    )  # fmt: skip


def _side(addresses: dict[int, str], leg: str) -> dict[str, Any]:
    return {
        "leg": leg,
        "mode": "both",
        "addresses": [{"address": each, "public": each} for each in addresses.values()],
        "peer_ports": "1024-65535",
    }


def rules(hop: Hop, near: Sequence[str], behind: Sequence[str]) -> str:
    """The table of an intercepting hop, which sees the addresses `near` and `behind` it.

    It hands over more than the settings allow: so the proxy itself has to refuse.
    """
    lines = ["table inet sluice {"]
    both = [(4, "ip"), (6, "ip6")]
    for version, _family in both:
        far = [SERVERS[version], OUTSIDE[version]]
        for name, side in (("near", near), ("far", far), ("behind", behind)):
            elements = [each for each in side if (":" in each) == (version == 6)]
            lines.append(f"set {name}{version} {{ type ipv{version}_addr; flags interval; ")
            lines.append(f"elements = {{ {', '.join(elements)} }}; }}")
    write: Callable[..., list[str]] = _redirected if hop.intercepts == "redirect" else _taken
    lines += write(hop, both)
    lines.append("chain forward { type filter hook forward priority filter + 10; policy accept;")
    lines += [
        f"{family} saddr @near{version} {family} daddr @far{version} tcp dport {CONTROL} counter drop"
        for version, family in both
    ]
    return "\n".join([*lines, "}", "}", ""])


def _redirected(hop: Hop, both: Sequence[tuple[int, str]]) -> list[str]:
    talk, intercept = [], ["fib daddr type local return"]
    sets = []
    for version, family in both:
        own = NEAR[hop.name][version]
        pair = f"{family} saddr . {family} daddr"
        ends = f"{family} saddr @near{version} {family} daddr @far{version}"
        kind = f"ipv{version}_addr . ipv{version}_addr"
        sets.append(f"set talk{version} {{ type {kind}; flags dynamic,timeout; timeout 1h; size 65536; }}")
        talk.append(f"{ends} tcp dport {HANDED_OVER} update @talk{version} {{ {pair} timeout 1h }}")
        target = f"[{own}]" if version == 6 else own
        intercept.append(f"{ends} tcp dport {HANDED_OVER} dnat {family} to {target}:{INTERCEPT}")
        intercept.append(f"{pair} @talk{version} tcp dport {LISTEN[hop.name]} dnat {family} to {own}")
    return [
        *sets,
        "chain talk { type filter hook prerouting priority mangle; policy accept;",
        *talk,
        "}",
        "chain intercept { type nat hook prerouting priority dstnat; policy accept;",
        *intercept,
        "}",
    ]


def _taken(hop: Hop, both: Sequence[tuple[int, str]]) -> list[str]:
    lines = ["fib daddr type local return"]
    for version, family in both:
        own = NEAR[hop.name][version]
        target = f"[{own}]" if version == 6 else own
        there = f"{family} saddr @near{version} {family} daddr @far{version}"
        back = f"{family} saddr @behind{version} {family} daddr @near{version}"
        marked = f"meta mark set {MARK:#x} accept"
        lines.append(f"{there} meta l4proto tcp socket transparent 1 {marked}")
        lines.append(f"{there} tcp dport {HANDED_OVER} tproxy {family} to {target}:{INTERCEPT} {marked}")
        if hop.kind == "client":
            lines.append(f"{back} meta l4proto tcp socket transparent 1 {marked}")
    return ["chain intercept { type filter hook prerouting priority mangle; policy accept;", *lines, "}"]
