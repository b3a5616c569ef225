# SPDX-License-Identifier: GPL-3.0-or-later
"""Framing of commands (PROTOCOL 1.1-1.7)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sluice.protocol.lines import LINE_LIMIT, CommandReader, LineFault
from sluice.protocol.verbs import Kind, parse_command


def read(data: bytes) -> list[bytes | LineFault]:
    return CommandReader().feed(data)


def test_1_1_a_line_ends_at_crlf_or_lf() -> None:
    assert read(b"NOOP\r\nSYST\nPWD") == [b"NOOP", b"SYST"]


@pytest.mark.parametrize("line", [b"CWD a\rDELE b", b"CWD a\0b", b"CWD a\r\0b", b"NOOP\r"])
def test_1_2_bare_cr_and_nul_are_refused_and_the_next_line_is_read(line: bytes) -> None:
    assert read(line + b"\r\nSYST\r\n") == [LineFault.BARE_CONTROL, b"SYST"]


# bytes that mean something to the reader, and some that do not
stream = st.lists(
    st.sampled_from(
        [b"\r", b"\n", b"\0", b"\xff", b"\xf4", b"\xf2", b"\xfa", b"\xf0", b"\xfb", b"\x01", b"A", b" "]
    ),
    max_size=60,
).map(b"".join)


@given(stream, st.lists(st.integers(0, 60), max_size=6))
def test_1_3_any_split_gives_the_same_lines(data: bytes, cuts: list[int]) -> None:
    edges = sorted({0, *(min(c, len(data)) for c in cuts), len(data)})
    reader = CommandReader(limit=8)
    pieces = [line for a, b in itertools.pairwise(edges) for line in reader.feed(data[a:b])]
    whole = CommandReader(limit=8)
    assert pieces == whole.feed(data)
    assert reader.partial == whole.partial


def test_1_4_a_path_of_4096_bytes_passes() -> None:
    line = b"CWD " + b"a" * 4096
    assert read(line + b"\r\n") == [line]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_1_4_the_limit_is_of_the_line_without_its_end(end: bytes) -> None:
    assert read(b"a" * LINE_LIMIT + end) == [b"a" * LINE_LIMIT]
    assert read(b"a" * (LINE_LIMIT + 1) + end) == [LineFault.TOO_LONG]


def test_1_4_a_long_line_is_one_fault_and_bounded() -> None:
    reader = CommandReader()
    found = [line for _ in range(16) for line in reader.feed(b"x" * 65536)]
    assert found == [LineFault.TOO_LONG]
    assert len(reader._buffer) <= LINE_LIMIT + 2
    assert reader.feed(b"x\r\nNOOP\r\n") == [b"NOOP"]


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xf4\xff\xf2ABOR\r\n",  # IP, DM in line (BSD ftp)
        b"\xff\xf4\xffABOR\r\n"[:3] + b"\xf2ABOR\r\n",
        b"AB\xff\xf1OR\r\n",  # NOP in the middle
        b"\xff\xfd\x06ABOR\r\n",  # DO TIMING-MARK
        b"\xff\xfa\x18\x00x\nfoo\xff\xff\xff\xf0ABOR\r\n",  # a subnegotiation with a line end in it
    ],
)
def test_1_6_telnet_sequences_leave_the_line(data: bytes) -> None:
    assert read(data) == [b"ABOR"]


@pytest.mark.parametrize("argument", [b"a\xff\xffb", b"a\xffb"])
def test_1_6_0xff_in_a_name_leaves_as_it_came(argument: bytes) -> None:
    assert read(b"CWD " + argument + b"\r\n") == [b"CWD " + argument]


def test_1_6_a_sequence_without_end_is_a_line_that_has_begun() -> None:
    reader = CommandReader()
    assert reader.feed(b"\xff\xfa" + b"x" * 100) == []
    assert reader.partial


@given(st.binary(max_size=20).filter(lambda b: not set(b) & set(b"\r\n\0\xff")))
def test_1_5_the_argument_keeps_every_octet(argument: bytes) -> None:
    (line,) = read(b"cwd " + argument + b"\r\n")
    assert isinstance(line, bytes)
    command = parse_command(line)
    assert command.argument == argument
    assert command.line == b"cwd " + argument


def test_1_7_verbs_know_no_case() -> None:
    assert parse_command(b"retr  x ").verb.kind is Kind.TRANSFER
    assert parse_command(b"retr  x ").argument == b" x "
    assert parse_command(b"xyzzy").verb.kind is Kind.FORWARD
