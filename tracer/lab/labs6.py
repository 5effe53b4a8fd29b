"""The IPv6 twins of the labs, each with what is otherwise there."""

from __future__ import annotations

from dataclasses import replace

from tracer.lab.basic import LOCAL_LAB, ROUTER, SERVER_LAB
from tracer.lab.drops import ERRORS, RPFILTER
from tracer.lab.policy import POLICY
from tracer.lab.remote import WIREGUARD
from tracer.lab.sites import GRE, IPSEC, VXLAN
from tracer.lab.topology import LOCAL, Expect, Hop, Lab, Namespace, Step
from tracer.lab.translate import MULTIPATH, NAT
from tracer.lab.twins import ending, twin
from tracer.lab.virtual import DUMMY, VLAN, VRF


def _errors() -> Lab:
    """An unreachable route and an unreachable rule are told as no route, a prohibit one as forbidden."""
    told = {
        "unreachable route in r": "icmp ENETUNREACH",
        "prohibit route in r": "icmp EACCES",
        "prohibit rule in r": "icmp EACCES",
    }
    steps = (
        ending(step, told[step.label], reason="IP_INNOROUTES") if step.label in told else step
        for step in ERRORS.steps
    )
    made = twin(ERRORS, *steps)
    too_big = "too big for the MTU of 1000, DF set"
    return replace(
        made,
        steps=tuple(
            replace(step, label=step.label.replace("1000", "1300")) if step.label == too_big else step
            for step in made.steps
        ),
    )


def _rpfilter() -> Lab:
    """IPv6 checks no sources by itself: nftables asks the tables for the way back, before the packet is routed."""
    filtered = """
        table ip6 lab {
            chain prerouting {
                type filter hook prerouting priority raw; policy accept;
                iifname "r2" fib saddr . iif oif missing drop
                iifname "r3" fib saddr oif missing drop
            }
        }
    """
    steps = (
        ending(step, reason="NETFILTER_DROP", rule=None, table=None, prefix=None)
        if step.label.endswith("dropped")
        else step
        for step in RPFILTER.steps
    )
    made = twin(RPFILTER, *steps)
    return replace(
        made,
        summary="client with four links to a router where nftables checks sources: strict, loose and not, in IPv6",
        namespaces=tuple(replace(ns, nft=filtered) if ns.name == "r" else ns for ns in made.namespaces),
    )


def _local() -> Lab:
    """There is no broadcast, and every table local has a route to all groups by every device."""
    there = Hop("c", "send", out_dev="c0", rule=0, table=LOCAL, prefix="ff00::/8")
    steps = tuple(step for step in LOCAL_LAB.steps if "broadcast" not in step.label)
    made = twin(LOCAL_LAB, *steps)
    return replace(
        made,
        teaches="Own addresses are decided at output, by the local table; groups by its multicast routes.",
        summary="a host to itself, by ::1 and by its own address; multicast on its link, in IPv6",
        namespaces=tuple(_without_groups(ns) for ns in made.namespaces),
        services=tuple(
            replace(
                service, program=tuple("s0" if word == "fd00:10:1::3" else word for word in service.program)
            )
            for service in made.services
        ),
        steps=tuple(_to_groups(step, there) if "multicast" in step.label else step for step in made.steps),
    )


def _without_groups(ns: Namespace) -> Namespace:
    return replace(ns, routes=tuple(route for route in ns.routes if "dev c0" not in route))


def _to_groups(step: Step, there: Hop) -> Step:
    """The receiver looks groups up as well."""
    paths = tuple(
        (there, replace(path[-1], rule=0, table=LOCAL, prefix="ff00::/8")) for path in step.expect.paths
    )
    return replace(step, expect=Expect(paths, step.expect.replies, step.expect.copies))


LABS6: tuple[Lab, ...] = (
    *(
        twin(ROUTER),
        twin(POLICY),
        _errors(),
        _rpfilter(),
        twin(MULTIPATH),
        _local(),
        twin(NAT),
        twin(SERVER_LAB),
    ),
    *(twin(VRF), twin(DUMMY), twin(VLAN), twin(VXLAN), twin(GRE), twin(IPSEC), twin(WIREGUARD)),
)
