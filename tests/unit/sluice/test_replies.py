# SPDX-License-Identifier: GPL-3.0-or-later
"""Framing of replies, FEAT (PROTOCOL 1.4, 1.8-1.10, 7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sluice.protocol.replies import LINE_LIMIT, ReplyFault, ReplyLine, ReplyReader, filter_features
from sluice.protocol.verbs import HIDDEN_FEATURES


def whole(data: bytes) -> list[tuple[int, bytes]]:
    """Return code and bytes of each reply in the stream."""
    replies: list[tuple[int, bytes]] = []
    raw = b""
    for item in ReplyReader().feed(data):
        assert isinstance(item, ReplyLine)
        raw = item.raw if item.first else raw + item.raw
        if item.last:
            replies.append((item.code, raw))
    return replies


TRAPS = b"214-Help\r\n200 not me\r\n\r\n214\r\n214-nor me\r\n 214 nor me\r\n999 x\r\n214 End\r\n"


def test_1_8_only_the_same_code_and_a_blank_close() -> None:
    assert whole(TRAPS + b"200 next\r\n") == [(214, TRAPS), (200, b"200 next\r\n")]


@pytest.mark.parametrize("line", [b"220\r\n", b"220\n", b"220 \r\n", b"220 x\n"])
def test_1_8_a_reply_of_one_line(line: bytes) -> None:
    assert whole(line) == [(220, line)]


@given(
    st.lists(st.sampled_from([b"220 a\r\n", b"211-x\r\n", b"211 y\r\n", b" z\n", b"\r\n"]), max_size=8),
    st.data(),
)
def test_1_3_any_split_gives_the_same_lines(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(lines)
    reader = ReplyReader()
    pieces = []
    left = stream
    while left:
        n = data.draw(st.integers(1, len(left)))
        pieces += reader.feed(left[:n])
        left = left[n:]
    assert pieces == ReplyReader().feed(stream)


def test_1_4_a_line_of_12_kb_is_whole() -> None:
    line = b"257 " + b"a" * 12000 + b"\r\n"
    assert whole(line) == [(257, line)]


def test_1_4_a_line_without_end_is_a_fault() -> None:
    reader = ReplyReader()
    found = [item for _ in range(4) for item in reader.feed(b"2" * (LINE_LIMIT // 2))]
    assert found == [ReplyFault("a reply line is too long")]


@pytest.mark.parametrize(
    "data", [b"1 Hola\n", b"\r\n", b"HTTP/1.1 400\r\n", b"999 x\r\n", b"2201 x\r\n", b"22\r\n"]
)
def test_1_10_what_is_no_reply_is_a_fault(data: bytes) -> None:
    reader = ReplyReader()
    assert reader.feed(data) == [ReplyFault("a reply does not begin with a code")]
    assert reader.feed(b"220 too late\r\n") == []


FEATURES = (
    b"211-Extensions supported:\r\n AUTH TLS\r\n PBSZ\r\n PROT\r\n EPSV\r\n"
    b" MLST type*;size*;modify;\r\n UTF8\r\n SPSV\r\n211 End.\r\n"
)


def test_7_1_the_list_is_well_formed_after_filtering() -> None:
    assert filter_features(FEATURES, HIDDEN_FEATURES.__contains__, [b"EPRT", b"EPSV"]) == (
        b"211-Extensions supported:\r\n EPSV\r\n MLST type*;size*;modify;\r\n UTF8\r\n EPRT\r\n211 End\r\n"
    )


@pytest.mark.parametrize("raw", [b"211 no features\r\n", b"211-x\r\n AUTH TLS\r\n211 End\r\n"])
def test_7_1_an_empty_set_is_one_line(raw: bytes) -> None:
    assert filter_features(raw, HIDDEN_FEATURES.__contains__, []) == b"211 no features\r\n"


def test_7_1_lines_without_their_blank_are_put_right() -> None:
    assert filter_features(b"211-\r\nSIZE\r\n  MDTM\r\n211 \r\n", lambda word: False, ()) == (
        b"211-Features:\r\n SIZE\r\n MDTM\r\n211 End\r\n"
    )


def test_7_4_what_the_proxy_offers_is_added() -> None:
    assert (
        filter_features(b"211 none\r\n", lambda word: False, [b"EPSV"])
        == b"211-Features:\r\n EPSV\r\n211 End\r\n"
    )
