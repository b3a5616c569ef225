# SPDX-License-Identifier: GPL-3.0-or-later
"""PORT, EPRT, 227, 229 (PROTOCOL 3.5-3.9, 3.13)."""

from __future__ import annotations

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sluice.protocol import addresses
from sluice.protocol.addresses import BadAddressError

ports = st.integers(1, 65535)
v4 = st.ip_addresses(v=4)
any_address = st.ip_addresses()


@given(v4, ports)
def test_3_13_port_reads_what_it_writes(address: ipaddress.IPv4Address, port: int) -> None:
    assert addresses.parse_port(addresses.format_port(address, port)) == (address, port)


@pytest.mark.parametrize(
    "argument",
    [b"", b"1,2,3,4,5", b"1,2,3,4,5,6,7", b"256,2,3,4,5,6", b"1,2,3,4,5,256", b"1,2,3,4,,6", b"1,2,3,4,0,0",
     b"1.2.3.4,5,6", b"-1,2,3,4,5,6", b"1,2,3,4,5,6x", b"1, 2,3,4,5,6", b"0001,2,3,4,5,6"],
)  # fmt: skip
def test_3_13_bad_port_is_501(argument: bytes) -> None:
    with pytest.raises(BadAddressError, match=r"^501 "):
        addresses.parse_port(argument)


@given(any_address, ports, st.sampled_from(list(b"|!#;~$")))
def test_3_13_eprt_takes_any_delimiter(address: addresses.Address, port: int, delimiter: int) -> None:
    argument = addresses.format_eprt(address, port).replace(b"|", bytes([delimiter]))
    assert addresses.parse_eprt(argument) == (address, port)


@pytest.mark.parametrize(
    ("argument", "code"),
    [(b"", "501"), (b"|1|1.2.3.4|5000", "501"), (b"|3|1.2.3.4|5000|", "522"), (b"|1|::1|5000|", "501"),
     (b"|2|1.2.3.4|5000|", "501"), (b"|2|fe80::1%eth0|5000|", "501"), (b"|1|1.2.3.4|0|", "501"),
     (b"|1|1.2.3.4|65536|", "501"), (b"|1|1.2.3.4|5000|x", "501"), (b" 1 1.2.3.4 5000 ", "501"),
     (b"|1|01.2.3.4|5000|", "501"), (b"|1|1.2.3|5000|", "501"), (b"||1.2.3.4|5000|", "522")],
)  # fmt: skip
def test_3_13_bad_eprt(argument: bytes, code: str) -> None:
    with pytest.raises(BadAddressError, match=f"^{code} "):
        addresses.parse_eprt(argument)


@pytest.mark.parametrize(
    "raw",
    [
        b"227 Entering Passive Mode (10,99,99,99,19,137).\r\n",
        b"227 Entering Passive Mode 0,0,0,0,19,137\r\n",
        b"227 =10,1,2,3,19,137\r\n",
        b"227 Entering Passive Mode (10, 1, 2, 3, 19, 137)\r\n",
        b"227-Hello 1,2\r\n227 Entering Passive Mode (10,1,2,3,19,137)\r\n",
        b"227 (10,1,2,3,19,137)\r\n",
    ],
)
def test_3_6_227_in_every_shape(raw: bytes) -> None:
    assert addresses.parse_227(raw) == 19 * 256 + 137


@pytest.mark.parametrize(
    "numbers", [b"no", b"(1,2,3,4,5)", b"(1,2,3,4,0,0)", b"(1,2,3,4,256,1)", b"(1,2,3,4,5,6,7)"]
)
def test_3_6_227_without_a_port(numbers: bytes) -> None:
    assert addresses.parse_227(b"227 " + numbers + b"\r\n") is None


@pytest.mark.parametrize(
    "raw",
    [
        b"229 Entering Extended Passive Mode (|||5001|)\r\n",
        b"229 ok (!!!5001!) now\r\n",
        b"229 (a|b) (|||9|) then (|||5001|)\r\n",
        b"229 Extended (|1|10.0.0.1|5001|)\r\n",
    ],
)
def test_3_8_229_in_every_shape(raw: bytes) -> None:
    assert addresses.parse_229(raw) == 5001


@pytest.mark.parametrize(
    "raw",
    [b"229 no\r\n", b"229 (|||0|)\r\n", b"229 (|||65536|)\r\n", b"229 (||5001|)\r\n", b"229 |||5001|\r\n"],
)
def test_3_8_229_without_a_port(raw: bytes) -> None:
    assert addresses.parse_229(raw) is None


def test_3_5_and_3_8_one_shape_goes_out() -> None:
    assert addresses.format_227(ipaddress.ip_address("10.1.0.1"), 50000) == (
        "227 Entering Passive Mode (10,1,0,1,195,80)."
    )
    assert addresses.format_229(50000) == "229 Entering Extended Passive Mode (|||50000|)"


@given(st.binary(max_size=80))
def test_10_7_noise_never_raises_anything_else(noise: bytes) -> None:
    for parse in (addresses.parse_port, addresses.parse_eprt):
        with contextlib.suppress(BadAddressError):
            parse(noise)
    addresses.parse_227(b"227 " + noise)
    addresses.parse_229(b"229 " + noise)


@pytest.mark.parametrize(
    "text", [b"(" + b"|" * (1 << 20), b"(|" * (1 << 19), b"(" * (1 << 19) + b")" * (1 << 19)]
)
def test_10_7_a_long_229_takes_no_time(text: bytes) -> None:
    """A server may write 1 MiB; it was hours, in which nobody else was served."""
    assert addresses.parse_229(b"229 " + text + b"\r\n") is None
    assert addresses.parse_229(b"229 " + text + b" (|||5001|)\r\n") == 5001
