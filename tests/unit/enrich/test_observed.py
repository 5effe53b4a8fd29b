"""A rule and a prefix that were seen are shown as seen, and go before what would be inferred."""

from __future__ import annotations

import errno

from tests.unit.correlate.records import KINDS, LOCAL, R0, R1, Packet, R, Scene, fails, hit, miss
from tests.unit.outputs.worlds import NAMES, state
from tracer.correlate.callers import Purpose
from tracer.correlate.observed import HINT_CHOSEN, HINT_PREFIX, HINT_RULE
from tracer.enrich.inference import explain_decision

PACKET = Packet()


def explain(*searches, states=None):
    """The explanation of an input decision; searches are (search, fields of its record)."""
    scene = Scene()
    for search, fields in searches:
        scene.softirq().decide(PACKET.key(R0), "input", search, **fields)
    records = list(scene.records())
    assert all(record["kind"] == KINDS.LOOKUP for record in records)
    known = (state(R),) if states is None else states
    return explain_decision(records, Purpose.INPUT, "ip_route_input_slow", known, NAMES)


def seen(priority, table, length=None):
    """Fields of a record whose rule, and prefix, were read."""
    found = {"rule": priority, "rule_table": table, "hints": HINT_RULE}
    return found if length is None else {**found, "prefix_length": length, "hints": HINT_RULE | HINT_PREFIX}


def test_what_was_seen_is_marked_observed():
    """Rule and prefix of each lookup, with the text of the rule from the configuration."""
    found = explain((miss(255), seen(0, 255)), (hit(100, R1), seen(100, 100, 0)))
    names = ("rule", "rule_text", "result", "prefix", "evidence")
    assert [tuple(row.get(name) for name in names) for row in found.lookups] == [
        (0, "from all lookup local", "miss", None, "observed"),
        (100, "from 10.1.0.0/24 lookup 100", "hit", "0.0.0.0/0", "observed"),
    ]


def test_a_rule_that_the_configuration_lacks_is_shown_without_its_text():
    """It was changed since: the preference was seen, nothing else is made up."""
    found = explain((hit(100, R1), seen(77, 100, 0)))
    assert (found.lookups[0]["rule"], found.lookups[0].get("rule_text")) == (77, None)


def test_a_prefix_that_was_seen_goes_before_the_configuration():
    """The route of the known configuration is another: the kernel's own length stands."""
    found = explain((miss(255), seen(0, 255)), (hit(100, R1), seen(100, 100, 24)))
    assert found.lookups[-1]["prefix"] == "10.2.0.0/24"


def test_a_rule_that_ends_the_walk_is_a_lookup_of_no_table():
    """Its result is the rule's action, here known by its error alone."""
    ended = (fails(0, errno.EACCES), {"rule": 50, "hints": HINT_RULE})
    found = explain((miss(255), seen(0, 255)), ended)
    last = found.lookups[-1]
    assert (last["rule"], last["table"], last["result"], last["error"]) == (
        50,
        None,
        "prohibit",
        -errno.EACCES,
    )
    assert found.decision["result"] == "prohibit"
    assert found.extra is None


def test_a_nexthop_that_was_seen_is_not_chosen_again():
    """Of a multipath route the device that was used is inferred only where nobody saw the choice."""
    hinted = seen(100, 100, 0) | {"hints": HINT_RULE | HINT_PREFIX | HINT_CHOSEN}
    found = explain((miss(255), seen(0, 255)), (hit(100, R1, LOCAL), hinted))
    assert found.chosen
