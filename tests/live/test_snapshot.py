"""Snapshots of real namespaces: the bulk reading against the ordinary one, and a file read back."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tracer.enrich import bulk, decode, netns, snapshot
from tracer.enrich.decide import decide
from tracer.enrich.netlink import RouteSocket
from tracer.enrich.selectors import FlowKey
from tracer.model.network import IPV4, IPV6

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make network namespaces"),
]
NAME = f"fs-{os.getpid()}"


@pytest.fixture
def namespace():
    lines = ["link set lo up", "link add s0 type veth peer name s1", "link set s0 up", "link set s1 up"]
    lines += ["addr add 10.0.0.1/24 dev s0", "addr add 2001:db8::1/64 dev s0 nodad"]
    lines += ["nexthop add id 5 via 10.0.0.9 dev s0", "route add 10.9.0.0/16 nhid 5"]
    lines += [f"route add 20.{i >> 8}.{i & 255}.0/24 via 10.0.0.{2 + i % 3} dev s0" for i in range(1500)]
    lines += [f"route add 2001:db8:{i:x}:1::/64 via 2001:db8::{2 + i % 3:x} dev s0" for i in range(1500)]
    lines += ["route add blackhole 30.0.0.0/8", "route add 31.0.0.0/8 via inet6 fe80::5 dev s0 metric 7"]
    lines += ["route add 32.0.0.0/8 nexthop via 10.0.0.2 weight 2 nexthop via 10.0.0.3"]
    lines += ["route add 33.0.0.0/8 dev s0 src 10.0.0.1 tos 0x10 table 4000"]
    subprocess.run(["ip", "netns", "add", NAME], check=True)
    try:
        text = "\n".join(lines) + "\n"
        subprocess.run(["ip", "-n", NAME, "-batch", "-"], input=text, text=True, check=True)
        yield NAME
    finally:
        subprocess.run(["ip", "netns", "del", NAME], check=True)


@pytest.mark.parametrize("family", [IPV4, IPV6])
def test_bulk_reading_gives_the_routes_of_the_ordinary_decoder(namespace, family):
    """Every route of every table is the same, in the same order, whatever its attributes."""
    fd = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        sock = netns.run_in(fd, RouteSocket)
    finally:
        os.close(fd)
    try:
        wanted = [decode.route(message) for message in sock.dump(bulk.GET_ROUTE, {"family": family})]
        found = bulk.read_tables(sock, family)
    finally:
        sock.close()
    assert len(wanted) > 1500
    assert set(found) == {route.table for route in wanted}
    for table, routes in found.items():
        assert list(routes) == [route for route in wanted if route.table == table]


def test_a_snapshot_read_back_answers_as_the_state_itself(namespace, tmp_path):
    """The file has everything that a decision needs, also of the tables written as columns."""
    path = tmp_path / "snapshot.json"
    with path.open("w") as stream:
        snapshot.write(stream, namespace)
    (state,) = snapshot.states(namespace)
    read = snapshot.read(str(path))
    assert read.kernel == os.uname().release
    assert (read.states[0].name, read.states[0].inode) == (
        namespace,
        Path("/run/netns", namespace).stat().st_ino,
    )
    assert not isinstance(state.tables[254], tuple)
    for target in (20 << 24 | 5, 10 << 24 | 9 << 16 | 1, 30 << 24, 32 << 24 | 1, 40 << 24):
        flow = FlowKey(daddr=target)
        assert decide(read.states[0], flow)[:2] == decide(state, flow)[:2]
        assert decide(read.states[0], flow).route == decide(state, flow).route
