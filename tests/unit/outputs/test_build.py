"""Finished steps become rows: what was observed stands, what is inferred is marked, nothing is mixed up."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.correlate.records import (
    C0,
    ICMP,
    LO,
    LOCAL,
    MS,
    R0,
    R1,
    S0,
    TCP,
    C,
    Packet,
    R,
    S,
    Scene,
    hit,
    miss,
)
from tests.unit.outputs.worlds import NAMES, OFFSET_NS, SOURCE_RULE, network, route, rows, state, world
from tracer.model.columns import COLUMNS, INTERNAL
from tracer.model.network import Rule
from tracer.outputs.build import RowBuilder

PACKET = Packet()


def forwarded(packet=PACKET, scene=None):
    """A packet through the router, strictly checked."""
    scene = scene or Scene()
    soft = scene.softirq().receive(packet, R0).decide(packet.key(R0), "input", miss(255), hit(100, R1))
    soft.decide(packet.check_key(R0), "check", miss(255), hit(254, R0)).xmit(
        packet.but(ttl=packet.ttl - 1), R1
    )
    return scene


def columns(found, *names):
    return [tuple(row.get(name) for name in names) for row in found]


def test_a_path_has_a_row_per_step_in_order():
    """Events, decisions and numbers."""
    found = rows(forwarded())
    assert columns(found, "step", "event", "decision", "hop") == [
        (1, "receive", None, 1),
        (2, "lookup", 1, 1),
        (3, "lookup", 1, 1),
        (4, "decision", 1, 1),
        (5, "lookup", 2, 1),
        (6, "lookup", 2, 1),
        (7, "decision", 2, 1),
        (8, "forward", None, 1),
    ]
    assert {row["packet"] for row in found} == {1}
    assert {(row["netns"], row["netns_inode"], row["role"]) for row in found} == {("r", R, "router")}


def test_rules_prefixes_and_results_are_those_of_the_configuration():
    """The rule that led to each lookup, as `ip rule` prints it, and the route's prefix."""
    found = rows(forwarded())
    names = ("rule", "rule_text", "table", "result", "prefix", "dev", "evidence")
    assert columns(found[1:4], *names) == [
        (0, "from all lookup local", "local", "miss", None, None, "inferred"),
        (100, "from 10.1.0.0/24 lookup 100", "100", "hit", "0.0.0.0/0", "r1", "inferred"),
        (None, None, None, "unicast", "0.0.0.0/0", "r1", "observed"),
    ]
    assert found[6]["reason"] == "strict: same device, pass"
    assert found[1]["caller"] == "ip_route_input_slow"


def test_the_key_of_a_lookup_is_the_keys_and_that_of_a_packet_the_packets():
    """A source check swaps the ends; a receive shows the packet's."""
    found = rows(forwarded(PACKET.but(mark=3)))
    assert columns(found, "src", "dst")[0] == ("10.1.0.2", "10.2.0.2")
    assert columns(found, "src", "dst")[4] == ("10.2.0.2", "10.1.0.2")
    assert (found[1]["iif"], found[1]["mark"], found[0].get("iif")) == (R0.ifindex, 3, None)
    assert (found[0]["proto"], found[0]["sport"], found[0]["dport"]) == ("udp", 40000, 53)


def test_time_is_that_of_the_day():
    """CLOCK_MONOTONIC of the record plus the offset."""
    scene = forwarded()
    assert rows(scene)[0]["ts_ns"] == scene.rows[0][1]["ts_ns"] + OFFSET_NS


def test_an_unknown_namespace_shows_numbers():
    """No name, no rule, no prefix; `ensure` was asked for it."""
    asked = []
    found = rows(forwarded(), world(network(state(C)), ensure=asked.append))
    assert asked == [R]
    assert {row.get("netns") for row in found} == {None}
    assert columns(found, "in_dev", "rule", "prefix")[0] == ("if2", None, None)
    assert columns(found, "dev", "rule", "rule_text", "prefix", "evidence")[2] == (
        "if3",
        None,
        None,
        None,
        "observed",
    )


def test_a_configuration_that_does_not_explain_what_was_seen_explains_nothing():
    """The walk went to a table that no rule names: no rule is guessed, also not for the first lookup."""
    scene = Scene()
    scene.softirq().receive(PACKET, R0).decide(PACKET.key(R0), "input", miss(255), hit(77, R1)).xmit(
        PACKET.but(ttl=63), R1
    )
    found = [row for row in rows(scene) if row["event"] == "lookup"]
    assert columns(found, "rule", "rule_text", "prefix", "table", "result") == [
        (None, None, None, "local", "miss"),
        (None, None, None, "77", "hit"),
    ]


def test_a_route_that_does_not_agree_gives_no_prefix():
    """The observed nexthop is another one: the table changed meanwhile."""
    scene = Scene()
    scene.softirq().receive(PACKET, R0).decide(PACKET.key(R0), "input", miss(255), hit(100, R0)).xmit(
        PACKET.but(ttl=63), R0
    )
    assert [row.get("prefix") for row in rows(scene) if row["event"] == "lookup"] == [None, None]


def test_the_state_in_force_at_the_time_is_used():
    """A rule that was added later does not explain an earlier packet."""
    scene = forwarded()
    later = scene.now_ns + MS
    scene.wait(2 * MS)
    forwarded(PACKET.but(skb=0x9000, ip_id=9, src="10.1.0.3"), scene)
    renamed = Rule(
        **{
            **{n: getattr(SOURCE_RULE, n) for n in ("family", "action", "table", "src", "src_len")},
            "priority": 50,
        }
    )
    after = state(R, since_ns=later, unsure_ns=later, rules=(state(R).rules[0], renamed, state(R).rules[2]))
    found = rows(scene, world(network(state(R), after)))
    assert [row["rule"] for row in found if row.get("table") == "100"] == [100, 50]


def test_a_change_not_yet_certain_is_tried_when_the_older_state_does_not_explain():
    """Netlink tells a little late."""
    scene = forwarded()
    without = state(R, rules=(state(R).rules[0], state(R).rules[2]))
    since = scene.now_ns + MS
    certain, unsure = state(R, since_ns=since, unsure_ns=since), state(R, since_ns=since, unsure_ns=1)
    assert [
        row.get("rule") for row in rows(scene, world(network(without, certain))) if row.get("table") == "100"
    ] == [None]
    assert [
        row.get("rule") for row in rows(scene, world(network(without, unsure))) if row.get("table") == "100"
    ] == [100]


def test_processes_are_seen_or_found_by_the_socket_or_asked_for():
    """In that order; a forwarded packet has none."""
    scene = Scene()
    scene.task(812, "curl").decide(PACKET.key(), "send", miss(255), hit(254, C0)).xmit(PACKET, C0)
    scene.softirq().receive(PACKET, S0).decide(PACKET.key(S0), "input", hit(255, S0, LOCAL))
    assert columns(rows(scene), "pid", "comm")[3] == (812, "curl")
    assert columns(rows(scene), "pid", "comm")[-1] == (None, None)
    asked = []
    found = rows(scene, world(owner=lambda *key: asked.append(key) or (640, "nginx")))
    assert columns(found, "pid", "comm")[-1] == (640, "nginx")
    assert asked == [(S, 17, 0x0A020002, 53)]
    scene.task(99, "dnsd", S).told("OWNER", PACKET.but(sock=0x77), S)
    assert columns(rows(scene), "pid", "comm")[-1] == (99, "dnsd")
    assert {row.get("pid") for row in rows(forwarded(), world(owner=lambda *_key: (1, "init")))} == {None}


def test_nobody_is_asked_for_the_owner_of_icmp():
    """There is no port to ask by."""
    scene = Scene()
    packet = Packet(proto=ICMP, sport=0, dport=0)
    scene.softirq().receive(packet, S0).decide(packet.key(S0), "input", hit(255, S0, LOCAL))
    asked = []
    rows(scene, world(owner=lambda *key: asked.append(key)))
    assert asked == []


def test_a_delivery_that_nobody_was_seen_to_take_is_inferred():
    """It stands on the route alone."""
    scene = Scene()
    soft = scene.softirq().receive(PACKET, S0).decide(PACKET.key(S0), "input", hit(255, S0, LOCAL))
    assert rows(scene)[-1]["evidence"] == "inferred"
    soft.consume(PACKET, S0)
    assert rows(scene)[-1]["evidence"] == "observed"


def test_cached_decisions_are_marked_and_explained():
    """Inferred, with the packet that was decided."""
    scene = Scene()
    packet = PACKET.but(proto=TCP, sock=5)
    scene.task(1).decide(packet.key(), "connect", miss(255), hit(254, C0)).xmit(packet, C0).xmit(
        packet.but(skb=1, ip_id=9), C0
    )
    found = [row for row in rows(scene) if row["packet"] == 2]
    assert columns(found, "event", "purpose", "cached", "evidence", "reason")[0] == (
        "decision",
        "output",
        True,
        "inferred",
        "cached: decided by #1 (socket route)",
    )


def test_loopback_is_one_hop():
    """Decided on the way out; delivered."""
    scene = Scene()
    packet = Packet("127.0.0.1", "127.0.0.1")
    scene.task(1).decide(packet.key(), "send", hit(255, LO, LOCAL)).xmit(packet, LO)
    scene.softirq().receive(packet, LO)
    found = rows(scene)
    assert {row["hop"] for row in found} == {1}
    assert found[-1]["event"] == "deliver"
    assert [row["reason"] for row in found if row.get("cached")] == [
        "no lookup: the loopback device keeps the route of the output decision"
    ]


def test_tables_are_named_as_the_names_say():
    """Others by number."""
    scene = forwarded()
    names = NAMES.__class__(**{**{n: getattr(NAMES, n) for n in NAMES.__slots__}, "tables": {100: "uplink"}})
    assert [row["table"] for row in rows(scene, world(names=names)) if row["event"] == "lookup"][:2] == [
        "255",
        "uplink",
    ]


def test_a_table_has_every_column_of_the_catalogue_in_order():
    """Also when it is empty."""
    steps, _ = forwarded().run()
    builder = RowBuilder(world())
    expected = [column.name for column in (*COLUMNS, *INTERNAL)]
    assert builder.rows(steps).column_names == expected
    empty = builder.rows(Scene().run()[0])
    assert (empty.column_names, len(empty)) == (expected, 0)


PACKETS = st.builds(
    Packet,
    src=st.sampled_from(("10.1.0.2", "10.1.0.3", "10.9.0.1")),
    dst=st.sampled_from(("10.2.0.2", "10.7.0.1")),
    proto=st.sampled_from((TCP, 17, ICMP)),
    sport=st.sampled_from((1, 2)),
    dport=st.sampled_from((53, 80)),
    ttl=st.sampled_from((1, 64)),
    mark=st.sampled_from((0, 7)),
    detail=st.sampled_from((0, 2)),
)
ENDS = st.sampled_from(("forward", "drop 7 1", "drop 3 9", "drop 8 2", "deliver"))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(PACKETS, ENDS, st.sampled_from((R0, R1))), min_size=2, max_size=6))
def test_rows_do_not_depend_on_what_was_explained_before(parts):
    """Each distinct decision is explained once and remembered: never taken for another one."""

    def play(scene, packet, end, device):
        soft = scene.softirq().receive(packet, device)
        kind = hit(255, device, LOCAL) if end == "deliver" else hit(100, R1)
        soft.decide(packet.key(device), "input", miss(255), kind)
        soft.decide(packet.check_key(device), "check", miss(255), hit(254, R0))
        if end == "forward":
            soft.xmit(packet.but(ttl=packet.ttl - 1), R1)
        elif end.startswith("drop"):
            soft.drop(packet, device, *(int(word) for word in end.split()[1:]))

    builder = RowBuilder(world())
    for index, (packet, end, device) in enumerate(parts):
        # The same moment each time: rows of one builder and of a new one can be compared as they are.
        scene = Scene()
        play(scene, packet.but(ip_id=index, skb=0x1000 * (index + 1)), end, device)
        assert rows(scene, builder=builder) == rows(scene)


def test_a_full_memory_begins_anew():
    """Rows stay right when the distinct ones have become too many."""
    builder = RowBuilder(world())
    first = rows(forwarded(), builder=builder)
    builder._statics._count = 10**9
    assert rows(forwarded(), builder=builder) == first
    assert not builder._statics.full
    assert route("10.0.0.0/8").prefix == "10.0.0.0/8"


def test_what_was_explained_while_it_was_certain_does_not_stand_for_what_was_not():
    """The same decision before a change and while either state may be in force: each is explained by its own."""
    scene = forwarded()
    unsure = scene.now_ns + MS
    scene.wait(2 * MS)
    forwarded(PACKET.but(skb=0x9000, ip_id=9), scene)
    without = state(R, rules=(state(R).rules[0], state(R).rules[2]))
    later = state(R, since_ns=scene.now_ns + MS, unsure_ns=unsure)
    found = rows(scene, world(network(without, later)))
    assert [row.get("rule") for row in found if row.get("table") == "100"] == [None, 100]
