"""Which VRF a flow is in: the key that the tracepoint shows leaves that out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracer.enrich.selectors import FlowKey
    from tracer.model.network import NetworkState


def in_vrf(state: NetworkState, flow: FlowKey, *, check: bool = False) -> Iterator[FlowKey]:
    """The flow with its VRF, as l3mdev_update_flow() fills it in: that of the output device, else of the input device.

    An output device that is a VRF itself was taken out of the key before the tables are searched: where no device
    says it, the flow is in no VRF or in any, and what was observed has to tell. So it is with a source check (`check`):
    __fib_validate_source() takes the VRF of the device that the packet came in on, which is not in the key.
    """
    vrfs = [link.ifindex for link in state.links.values() if link.kind == "vrf"]
    found = [vrf for vrf in (_vrf_of(state, flow.oif), _vrf_of(state, flow.iif)) if vrf]
    if not vrfs or (found and not check):
        yield flow._replace(l3mdev=found[0] if found else 0)
        return
    yield from (flow._replace(l3mdev=vrf) for vrf in found[:1])
    yield flow
    if check or not flow.oif:
        yield from (flow._replace(l3mdev=vrf) for vrf in vrfs)


def _vrf_of(state: NetworkState, ifindex: int) -> int:
    link = state.links.get(ifindex)
    if link is None:
        return 0
    if link.kind == "vrf":
        return ifindex
    master = state.links.get(link.master)
    return master.ifindex if master and master.kind == "vrf" else 0
