# SPDX-License-Identifier: GPL-3.0-or-later
"""What a proxy must know of each verb, in one table; the session asks it (DESIGN)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum


class Mode(Enum):
    """How a leg's data connection is opened: active, the server end opens; passive, the client end."""

    ACTIVE = "active"
    PASSIVE = "passive"

    @property
    def other(self) -> Mode:
        return Mode.PASSIVE if self is Mode.ACTIVE else Mode.ACTIVE


class Kind(Enum):
    """Which hand of the session deals with a verb."""

    FORWARD = "forward"  # the server answers; its reply is relayed as it comes
    REFUSE = "refuse"  # the proxy answers `local`, always
    SETUP = "setup"  # the proxy answers, and sets up its server leg
    TRANSFER = "transfer"  # moves data
    USER = "user"
    LOGIN = "login"  # PASS, ACCT
    REIN = "rein"
    FEAT = "feat"
    ABOR = "abor"
    QUIT = "quit"


class Use(Enum):
    """What a verb is good for; a policy allows kinds of use (7.9)."""

    SESSION = "session"  # login, directories, representation, set-up: no file is touched
    READ = "read"
    UPLOAD = "upload"
    CHANGE = "change"  # of what is there


@dataclass(frozen=True, slots=True)
class Verb:
    """One line of the table.

    use: None for a verb that the table lacks. reads: with an argument it reads, whatever its use.

    upload: of a transfer, whether the client sends. side: without an argument may run while data moves (5.1).
    mode, extended: of a set-up, what it asks for, and whether it is RFC 2428's form.
    local: the proxy's own answer (REFUSE: always; else while no server is chosen yet, 2.5).
    refused: arguments (upper case) answered 504. opens: names the server, while none is chosen yet (2.4).
    after_login: the proxy's own answer then.
    """

    name: bytes
    kind: Kind = Kind.FORWARD
    use: Use | None = Use.SESSION
    reads: bool = False
    upload: bool = False
    side: bool = False
    mode: Mode | None = None
    extended: bool = False
    local: str = ""
    refused: frozenset[bytes] = frozenset()
    opens: bool = False
    after_login: str = ""


_NO_TLS = "502 {verb} is not available: this proxy does no TLS yet."
_NOT_CARRIED = "502 {verb} is not available through this proxy."

_TABLE = (
    Verb(b"USER", Kind.USER),
    Verb(b"PASS", Kind.LOGIN),
    Verb(b"ACCT", Kind.LOGIN),
    Verb(b"REIN", Kind.REIN),
    Verb(b"QUIT", Kind.QUIT),
    Verb(b"FEAT", Kind.FEAT, local="211 no features"),
    Verb(b"ABOR", Kind.ABOR),
    Verb(b"STAT", side=True, reads=True),
    Verb(b"NOOP", side=True, local="200 OK."),
    Verb(b"SYST", local="215 UNIX Type: L8"),
    Verb(b"HELP", local="214 Log in as user@host; the server's own help follows then."),
    Verb(b"OPTS", local="200 OK."),
    Verb(b"CLNT", local="200 OK."),
    Verb(b"HOST", local=_NOT_CARRIED, after_login="503 HOST comes before USER."),  # 2.10
    Verb(b"OPEN", opens=True),
    Verb(b"SITE", use=Use.CHANGE, opens=True),
    # 7.10: block and compressed mode keep the connection open across files; only EOF ends a transfer here
    Verb(b"MODE", refused=frozenset((b"B", b"C"))),
    Verb(b"PORT", Kind.SETUP, mode=Mode.ACTIVE),
    Verb(b"EPRT", Kind.SETUP, mode=Mode.ACTIVE, extended=True),
    Verb(b"PASV", Kind.SETUP, mode=Mode.PASSIVE),
    Verb(b"EPSV", Kind.SETUP, mode=Mode.PASSIVE, extended=True),
    *(Verb(name, Kind.TRANSFER, Use.READ) for name in (b"RETR", b"LIST", b"NLST", b"MLSD")),
    *(Verb(name, Kind.TRANSFER, Use.UPLOAD, upload=True) for name in (b"STOR", b"STOU", b"APPE")),
    # what only a policy has to know
    *(Verb(name) for name in b"CWD XCWD CDUP XCUP PWD XPWD TYPE STRU REST LANG".split()),
    *(
        Verb(name, use=Use.READ)
        for name in b"SIZE MDTM MLST HASH RANG XCRC XMD5 XSHA XSHA1 XSHA256 XSHA512".split()
    ),
    Verb(b"ALLO", use=Use.UPLOAD),
    *(Verb(name, use=Use.CHANGE) for name in b"DELE RMD XRMD MKD XMKD RNFR RNTO MFMT MFCT MFF SMNT".split()),
    # 8.1
    *(
        Verb(name, Kind.REFUSE, local=_NO_TLS)
        for name in (b"AUTH", b"PBSZ", b"PROT", b"CCC", b"ADAT", b"MIC", b"ENC", b"CONF")
    ),
    # 3.23: these carry addresses that the proxy does not rewrite
    *(
        Verb(name, Kind.REFUSE, local=_NOT_CARRIED)
        for name in (b"LPRT", b"LPSV", b"SPSV", b"CPSV", b"SSCN", b"CEPR")
    ),
)

VERBS = {verb.name: verb for verb in _TABLE}

# 7.3: features the proxy does not carry
HIDDEN_FEATURES = frozenset({verb.name for verb in _TABLE if verb.kind is Kind.REFUSE} | {b"ESTA", b"ESTP"})


def features(modes: Collection[Mode], version: int) -> tuple[frozenset[bytes], list[bytes]]:
    """Return the features to hide and to add, on a leg of these modes and IP version (7.3, 7.4, 13.6)."""
    hidden, added = set(HIDDEN_FEATURES), []
    for verb in (v for v in _TABLE if v.kind is Kind.SETUP):
        if verb.mode not in modes:
            hidden.add(verb.name)
        elif verb.extended or (verb.name == b"PASV" and version == 4):
            added.append(verb.name)
    return frozenset(hidden), sorted(added)


@dataclass(frozen=True, slots=True)
class Command:
    """A command line: `line` is what came, `argument` what follows the one SP (1.5), octets untouched."""

    verb: Verb
    line: bytes
    argument: bytes

    @property
    def use(self) -> Use | None:
        """What it is good for, None where nobody knows."""
        return Use.READ if self.verb.reads and self.argument.strip(b" ") else self.verb.use


def parse_command(line: bytes) -> Command:
    """Split a line into verb and argument; a verb that the table lacks is forwarded (7.9)."""
    word, _blank, argument = line.partition(b" ")
    name = word.upper()
    return Command(VERBS.get(name) or Verb(name, use=None), line, argument)
