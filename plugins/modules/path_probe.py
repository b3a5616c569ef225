#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Try connections between hosts as given users: listen for a bounded time, connect, stop listening."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: path_probe
short_description: Tries connections between hosts as given users
version_added: 0.1.0
description:
  - One call has a host listen for some, another has the other host connect, a third ends the listening.
  - Each socket is made, and each connection accepted, as the user that the probe names.
  - Leaves nothing behind, the listening ends by itself at the latest after O(seconds).
  - The role P(sluice.ftp.verify#role) makes the probes.
author:
  - The sluice.ftp developers (@sluice)
attributes:
  check_mode:
    description: Does the same in check mode, for it changes nothing.
    support: full
  diff_mode:
    description: Has nothing to show.
    support: none
options:
  state:
    description:
      - V(addresses) tells which addresses of this host the routes to O(towards) give.
      - V(listening) leaves a process that listens for the probes, and returns the ports that it found free.
      - V(connecting) opens the probes all at once and tells what came of each.
      - V(finished) ends the process O(pid).
    type: str
    choices: [addresses, listening, connecting, finished]
    required: true
  towards:
    description: Addresses of other hosts.
    type: list
    elements: str
    default: []
  probes:
    description:
      - What to listen for or to open, each with C(id).
      - To listen, C(listener) (V(proxy), V(other) or V(own)), C(bind) (an own address) and C(ports).
      - To open, C(user), C(source) (an own address), C(source_ports), C(target) and C(ports).
      - Ports are V(FIRST-LAST) or one; empty C(source_ports) are any.
      - C(greets) tells that the acceptor speaks first, as FTP servers do.
      - C(identity) tells that it does so to who sends a header of the PROXY protocol first.
    type: list
    elements: dict
    default: []
  ports:
    description: The ports that V(listening) returned, by probe; they go before the C(ports) of the probe.
    type: dict
    default: {}
  user:
    description: The user that C(proxy) stands for; C(other) is V(nobody), C(own) whoever the module runs as.
    type: str
    default: sluice
  seconds:
    description: After so long the listening ends by itself.
    type: int
    default: 60
  pid:
    description: The process to end, as V(listening) returned it; V(0) is none.
    type: int
    default: 0
  started:
    description: When that process began, as V(listening) returned it, so that no other one is ended.
    type: str
    default: ''
notes:
  - Needs Linux and Python. Needs root where a probe names another user than C(own).
"""

EXAMPLES = r"""
- name: Listen as the proxy's user
  sluice.ftp.path_probe:
    state: listening
    probes:
      - {id: p1, listener: proxy, bind: 10.2.0.2, ports: 50000-50999}
  register: listening
  delegate_to: n1

- name: Connect as the proxy's user
  sluice.ftp.path_probe:
    state: connecting
    ports: "{{ listening.ports }}"
    probes:
      - id: p1
        user: proxy
        source: 10.2.0.1
        source_ports: 53000-53999
        target: 10.2.0.2
        ports: ''
        greets: false
        identity: false
  delegate_to: f1

- name: Stop listening
  sluice.ftp.path_probe:
    state: finished
    pid: "{{ listening.pid }}"
    started: "{{ listening.started }}"
  delegate_to: n1
"""

RETURN = r"""
addresses:
  description: Own addresses, each once, in the order of O(towards).
  returned: with O(state=addresses)
  type: list
  elements: str
  sample: [10.1.0.10]
ports:
  description: The port that is listened on, by probe.
  returned: with O(state=listening)
  type: dict
  sample: {p1: 50417}
failed_probes:
  description: Why a probe is not listened for, by probe.
  returned: with O(state=listening)
  type: dict
pid:
  description: The process that listens, 0 where there is nothing to listen for.
  returned: with O(state=listening)
  type: int
started:
  description: When it began, in the kernel's own words.
  returned: with O(state=listening)
  type: str
answers:
  description:
    - What came of each probe.
    - C(outcome) is V(answered), V(connected) (and no answer), V(reset), V(silent), V(unreachable)
      or V(failed) (nothing was sent).
    - C(said) is the first line of the answer, or the reason.
  returned: with O(state=connecting)
  type: dict
  sample: {p1: {outcome: answered, said: p1}}
"""

import contextlib
import errno
import os
import pwd
import random
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

SILENCE = 0.7  # s; the kernel sends the SYN again after one second, and that would count twice
ANSWER = 5.0  # s, for a connection that was accepted
PATIENCE = 5.0  # s, for somebody who connects to our listener and says nothing
TRIES = 64  # ports of a range to look at for a free one
NOBODY = 65534
RESET = struct.pack("ii", 1, 0)
# The PROXY protocol's header (version 2, section 2.2) of one who speaks for itself.
PROXY_LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
NAME = "sluice-verify"  # of the process that listens


class ProbeError(Exception):
    """A sentence for the user."""


def user_ids(proxy: str) -> dict[str, int | None]:
    """The numbers that the words of a probe stand for; None: as we are."""
    found: dict[str, int | None] = {"own": None}
    for word, name in (("proxy", proxy), ("other", "nobody")):
        with contextlib.suppress(KeyError):
            found[word] = pwd.getpwnam(name).pw_uid
    found.setdefault("other", NOBODY)
    return found


@contextmanager
def acting_as(uid: int | None) -> Iterator[None]:
    """What is made here belongs to that user: the filter looks at who called socket() or accept() (F2)."""
    if uid is None or uid == os.geteuid():
        yield
        return
    before = os.geteuid()
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(before)


def make_socket(address: str, uid: int | None) -> socket.socket:
    """A TCP socket of the user's that closes with a reset, so that nothing of it lingers."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with acting_as(uid):
        sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    return sock


def candidates(ports: str) -> list[int]:
    """Some ports of `FIRST-LAST` or of one port, in random order; 0 (any) for an empty text."""
    if not ports:
        return [0]
    first, _dash, last = ports.partition("-")
    every = range(int(first), int(last or first) + 1)
    return random.sample(every, min(TRIES, len(every)))


def number_of(word: str, uids: dict[str, int | None]) -> int | None:
    if word not in uids:
        raise ProbeError("the proxy's user does not exist on this host")
    uid = uids[word]
    if uid is not None and uid != os.geteuid() and os.geteuid() != 0:
        raise ProbeError("this host is entered as an ordinary user, expected root (become: true)")
    return uid


def listen(probe: dict[str, Any], uids: dict[str, int | None]) -> socket.socket:
    """A listening socket at a free port of the probe's; raises ProbeError."""
    uid = number_of(probe["listener"], uids)
    for port in candidates(probe["ports"]):
        sock = make_socket(probe["bind"], uid)
        try:
            sock.bind((probe["bind"], port))
            sock.listen(16)
        except OSError as exc:
            sock.close()
            if exc.errno != errno.EADDRINUSE:
                raise ProbeError(f"{probe['bind']} port {port}: {exc.strerror}") from exc
        else:
            return sock
    raise ProbeError(f"no free port in {probe['ports']}")


def serve(sockets: dict[str, socket.socket], uids: dict[str, int | None], users: dict[str, str]) -> None:
    """Answer who says the name of the probe with the same, for ever."""
    poller = select.poll()
    listening = {sock.fileno(): (name, sock) for name, sock in sockets.items()}
    accepted: dict[int, tuple[str, socket.socket, float]] = {}
    for descriptor in listening:
        poller.register(descriptor, select.POLLIN)
    while True:
        for descriptor, _event in poller.poll(1000):
            if descriptor in listening:
                name, sock = listening[descriptor]
                with contextlib.suppress(OSError), acting_as(uids[users[name]]):
                    peer, _address = sock.accept()
                    peer.setblocking(False)
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    accepted[peer.fileno()] = (name, peer, time.monotonic())
                    poller.register(peer, select.POLLIN)
            elif not answer(*accepted[descriptor][:2]):
                poller.unregister(descriptor)
                accepted.pop(descriptor)[1].close()
        for descriptor, (_name, peer, since) in list(accepted.items()):
            if time.monotonic() - since > PATIENCE:
                poller.unregister(descriptor)
                del accepted[descriptor]
                peer.close()


def answer(name: str, peer: socket.socket) -> bool:
    """Whether the connection goes on."""
    try:
        said = peer.recv(256)
        if said.strip() == name.encode():
            peer.send(said)
            return True
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def started(pid: int) -> str:
    """When a process began, empty where it is not there."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def in_background(seconds: int, work: Callable[[], None]) -> int:
    """A process of its own that does the work, ends by itself, and holds nothing of ours; its number."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.setsid()
            pid = os.fork()
            if pid:
                os.write(writer, str(pid).encode())
                os._exit(0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.alarm(seconds)
            os.chdir("/")
            with contextlib.suppress(OSError):
                Path("/proc/self/comm").write_text(NAME, encoding="utf-8")
            nothing = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nothing, descriptor)
            os.close(reader)
            os.close(writer)
            work()
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        return int(pipe.read() or 0)


def listening(probes: list[dict[str, Any]], uids: dict[str, int | None], seconds: int) -> dict[str, Any]:
    sockets = {}
    failed = {}
    for probe in probes:
        try:
            sockets[probe["id"]] = listen(probe, uids)
        except ProbeError as exc:
            failed[probe["id"]] = str(exc)
    users = {probe["id"]: probe["listener"] for probe in probes}
    pid = in_background(seconds, lambda: serve(sockets, uids, users)) if sockets else 0
    ports = {name: sock.getsockname()[1] for name, sock in sockets.items()}
    for sock in sockets.values():
        sock.close()  # that process holds it
    return {"ports": ports, "failed_probes": failed, "pid": pid, "started": started(pid) if pid else ""}


class Attempt:
    """One connection being opened."""

    def __init__(self, probe: dict[str, Any], sock: socket.socket) -> None:
        self.probe = probe
        self.sock = sock
        self.deadline = time.monotonic() + SILENCE
        self.connected = False
        self.heard = b""

    def go_on(self) -> tuple[str, str] | None:
        """What came of it, or None while that is open."""
        try:
            if not self.connected:
                error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error:
                    return failure(error)
                self.connected = True
                self.deadline = time.monotonic() + ANSWER
                if self.probe["identity"]:
                    self.sock.send(PROXY_LOCAL)
                elif not self.probe["greets"]:
                    self.sock.send(f"{self.probe['id']}\n".encode())
                return None
            said = self.sock.recv(512)
        except BlockingIOError:
            return None
        except OSError as exc:
            return "connected", exc.strerror or str(exc)
        self.heard += said
        if b"\n" in self.heard or len(self.heard) > 512:
            line = self.heard.partition(b"\n")[0].decode("ascii", "backslashreplace").strip()
            expected = self.probe["greets"] or line == self.probe["id"]
            return ("answered" if expected else "connected"), line[:200]
        return None if said else ("connected", "closed without an answer")

    def overdue(self) -> tuple[str, str]:
        return ("connected", "no answer") if self.connected else ("silent", f"nothing for {SILENCE} s")


def failure(error: int) -> tuple[str, str]:
    outcome = {errno.ECONNREFUSED: "reset", errno.ETIMEDOUT: "silent"}.get(error, "unreachable")
    return outcome, os.strerror(error)


def open_one(probe: dict[str, Any], port: int, uids: dict[str, int | None]) -> Attempt | tuple[str, str]:
    """Send the first packet, or tell why not."""
    try:
        uid = number_of(probe["user"], uids)
    except ProbeError as exc:
        return "failed", str(exc)
    reason = f"no free port in {probe['source_ports']}"
    for source_port in candidates(probe["source_ports"]):
        sock = make_socket(probe["target"], uid)
        try:
            sock.bind((probe["source"], source_port))
        except OSError as exc:
            sock.close()
            if exc.errno != errno.EADDRINUSE:
                return "failed", f"{probe['source']} port {source_port}: {exc.strerror}"
            continue
        error = sock.connect_ex((probe["target"], port))
        if error in (0, errno.EINPROGRESS):
            return Attempt(probe, sock)
        sock.close()
        if error != errno.EADDRNOTAVAIL:  # else these two ends have a connection from that port already
            return failure(error)
    return "failed", reason


def connecting(
    probes: list[dict[str, Any]], ports: dict[str, Any], uids: dict[str, int | None]
) -> dict[str, Any]:
    """Open them all, and wait until each has come to something."""
    done: dict[str, tuple[str, str]] = {}
    open_now: dict[int, Attempt] = {}
    poller = select.poll()
    for probe in probes:
        if probe.get("listener") and probe["id"] not in ports:
            continue  # nobody could listen for it
        port = int(ports.get(probe["id"]) or str(probe["ports"]).partition("-")[0])
        result = open_one(probe, port, uids)
        if isinstance(result, Attempt):
            open_now[result.sock.fileno()] = result
            poller.register(result.sock, select.POLLOUT)
        else:
            done[probe["id"]] = result
    while open_now:
        for descriptor, _event in poller.poll(20):
            attempt = open_now[descriptor]
            outcome = attempt.go_on()
            if outcome:
                done[attempt.probe["id"]] = outcome
            elif attempt.connected:
                poller.modify(descriptor, select.POLLIN)
        for descriptor, attempt in list(open_now.items()):
            if attempt.probe["id"] not in done and time.monotonic() > attempt.deadline:
                done[attempt.probe["id"]] = attempt.overdue()
            if attempt.probe["id"] in done:
                poller.unregister(descriptor)
                del open_now[descriptor]
                attempt.sock.close()
    return {"answers": {name: {"outcome": one, "said": said} for name, (one, said) in done.items()}}


def addresses(towards: list[str]) -> list[str]:
    """Own addresses that the routes give; nothing is sent."""
    found = []
    for address in towards:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((address, 9))
            found.append(sock.getsockname()[0])
    return list(dict.fromkeys(found))


def finish(pid: int, began: str) -> None:
    """End the process, if it still is the one that was meant."""
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not began or started(pid) != began:
                return
            signal.pidfd_send_signal(process, number)
            if select.select([process], [], [], 2)[0]:
                return
    except ProcessLookupError:
        pass
    finally:
        os.close(process)


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "choices": ["addresses", "listening", "connecting", "finished"],
                "required": True,
            },
            "towards": {"type": "list", "elements": "str", "default": []},
            "probes": {"type": "list", "elements": "dict", "default": []},
            "ports": {"type": "dict", "default": {}},
            "user": {"type": "str", "default": "sluice"},
            "seconds": {"type": "int", "default": 60},
            "pid": {"type": "int", "default": 0},
            "started": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    given = module.params
    result: dict[str, Any] = {}
    try:
        if given["state"] == "addresses":
            result = {"addresses": addresses(given["towards"])}
        elif given["state"] == "listening":
            result = listening(given["probes"], user_ids(given["user"]), given["seconds"])
        elif given["state"] == "connecting":
            result = connecting(given["probes"], given["ports"], user_ids(given["user"]))
        elif given["pid"]:
            finish(given["pid"], given["started"])
    except (OSError, KeyError, ValueError) as exc:
        module.fail_json(msg=f"The probes could not be tried: {exc}.")
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
