# SPDX-License-Identifier: GPL-3.0-or-later
"""Random valid descriptions of paths of one to five hops, for Hypothesis."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

SIDES = ("client_side", "server_side")


@st.composite
def port_tables(draw: st.DrawFn) -> dict[str, dict[str, str]]:
    """Four ranges that share no port: eight distinct bounds in order, dealt out to the four.

    1024 is none of theirs: metrics are there.
    """
    bounds = sorted(draw(st.lists(st.integers(1025, 65535), min_size=8, max_size=8, unique=True)))
    ranges = [f"{low}-{high}" for low, high in zip(bounds[::2], bounds[1::2], strict=True)]
    a, b, c, d = draw(st.permutations(ranges))
    return {"client_side": {"listen": a, "source": b}, "server_side": {"listen": c, "source": d}}


@st.composite
def descriptions(draw: st.DrawFn) -> dict[str, Any]:
    """`topology`, `mode`, `ports` of a valid path, and `hosts`, its inventory names (one to three a hop)."""
    count = draw(st.integers(1, 5))
    families = draw(st.sampled_from([(4,), (6,), (4, 6)]))
    hops = []
    for i in range(count):
        host: dict[str, Any] = {}
        for j, side in enumerate(SIDES):
            host[side] = [f"10.{i}.{j}.1" if family == 4 else f"2001:db8:{i}:{j}::1" for family in families]
        if draw(st.booleans()):
            side = draw(st.sampled_from(SIDES))
            seen = (
                f"203.0.{i}.{SIDES.index(side)}"
                if 4 in families
                else f"2001:db8:ff:{i}:{SIDES.index(side)}::1"
            )
            host["public"] = {side: seen}
        if draw(st.booleans()):
            host["ports"] = draw(port_tables())
        members = {f"host{i}": host}
        for k in range(draw(st.sampled_from([0, 0, 1, 2]))):
            another = {
                side: [
                    f"10.{i}.{j}.{k + 2}" if family == 4 else f"2001:db8:{i}:{j}::{k + 2}"
                    for family in families
                ]
                for j, side in enumerate(SIDES)
            }
            members[f"host{i}{'bc'[k]}"] = {
                **another,
                **({"ports": draw(port_tables())} if draw(st.booleans()) else {}),
            }
        hops.append({"name": f"H{i}", "hosts": members})
        if draw(st.sampled_from([False, False, True])):
            hops[-1]["metrics_from"] = ["192.168.9.0/24", "2001:db8:9::/64"]
            for k, member in enumerate(members.values()):
                of_either = [f"192.168.{i}.{k + 1}:1024", f"[2001:db8:9:{i}::{k + 1}]:1024"]
                member["metrics"] = draw(st.sampled_from(of_either))
    if draw(st.booleans()):
        hops[-1]["resolvers"] = ["192.0.2.53"]
    networks = {4: ["172.16.0.0/24", "172.17.0.0/16"], 6: ["2001:db8:a::/48"]}
    topology = {
        "clients": {"networks": [each for family in families for each in networks[family]]},
        "hops": hops,
        "servers": {
            "networks": [{4: "0.0.0.0/0", 6: "::/0"}[family] for family in families],
            "control_ports": draw(st.lists(st.integers(1, 65535), min_size=1, max_size=3, unique=True)),
        },
    }
    names = ["C", *(hop["name"] for hop in hops), "S"]
    word = st.sampled_from(["active", "passive", "both"])
    legs = [f"{near}-{far}" for near, far in pairwise(names)]
    mode = draw(st.one_of(word, st.fixed_dictionaries(dict.fromkeys(legs, word))))
    ports = draw(st.one_of(st.none(), port_tables()))
    return {
        "topology": topology,
        "mode": mode,
        "ports": ports,
        "hosts": [name for hop in hops for name in hop["hosts"]],
    }
