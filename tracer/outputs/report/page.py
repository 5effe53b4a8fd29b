"""One HTML file from what was collected: our own markup, style and script, and the data, compressed.

Nothing from the capture stands in the markup but as base64 of a compressed block, and the script writes it as text,
never as markup. The page's own policy (CSP) lets no other script run and nothing be fetched.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import zlib
from dataclasses import dataclass, field
from importlib.resources import files
from string import Template
from typing import Any, Final

import numpy as np

from tracer.correlate.columns import Array
from tracer.model.change import Change
from tracer.outputs.report.collect import STEP, Collected

SCRIPTS: Final = ("data", "model", "hops", "table", "picture", "timeline", "views", "detail", "main")
"""The parts of the script, in order; they share one scope."""

_ALIGN: Final = 8
_LEVEL: Final = 6
_COMPLETE, _DROPPED, _EXACT = 1, 2, 4


@dataclass(slots=True)
class About:
    """What is to be said about a capture: its name, what is missing in it, and changes of the configuration."""

    name: str
    version: str = ""
    lost: int = 0
    cut_short: bool = False
    changes: list[Change] = field(default_factory=list)
    more_changes: int = 0


def page(found: Collected, about: About, most_paths: int) -> bytes:
    """The whole page."""
    packed = base64.b64encode(zlib.compress(_container(found, about, most_paths), _LEVEL)).decode()
    script = "(() => {\n'use strict';\n" + "\n".join(asset(f"{name}.js") for name in SCRIPTS) + "\n})();\n"
    style = asset("page.css")
    text = Template(asset("page.html")).substitute(
        title=html.escape(about.name),
        script_hash=_digest(script),
        style_hash=_digest(style),
        style=style,
        script=script,
        data=packed,
    )
    return text.encode()


def asset(name: str) -> str:
    """One of the files that a page is made of."""
    return (files("tracer.outputs.report") / "assets" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def chosen(dropped: Array, incomplete: Array, most: int) -> Array:
    """Which paths are listed when there are too many: what went wrong first, then evenly spaced ones of the others."""
    if len(dropped) <= most:
        return np.arange(len(dropped))
    wrong = dropped | incomplete
    kept = _spaced(np.flatnonzero(wrong), most // 2)
    rest = _spaced(np.flatnonzero(~wrong), most - len(kept))
    return np.sort(np.concatenate((kept, rest)))


def _spaced(numbers: Array, most: int) -> Array:
    if len(numbers) <= most:
        return numbers
    return numbers[np.linspace(0, len(numbers) - 1, most).astype(np.int64)]


def _container(found: Collected, about: About, most_paths: int) -> bytes:
    """A length, JSON, then the columns one behind the other, each beginning at a multiple of 8."""
    columns = {name: np.concatenate(parts) for name, parts in found.columns.items()}
    listed = (
        chosen(columns["dropped"], ~columns["complete"], most_paths) if found.paths else np.zeros(0, np.int64)
    )
    arrays = _path_arrays(columns, listed) if found.paths else {}
    start_ns = int(columns["start_ns"].min()) if found.paths else 0
    arrays |= _shared_arrays(found, arrays)
    head = {
        "meta": _meta(found, about, columns, len(listed)) | {"start_ns": str(start_ns)},
        "step": STEP,
        "strings": found.strings.values,
        "trees": [[one.text, one.duration_at, one.open_hops, int(one.inferred)] for one in found.bodies],
        "changes": [_change(one, start_ns) for one in about.changes],
        "arrays": [[name, str(values.dtype), len(values)] for name, values in arrays.items()],
    }
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=True).encode()
    parts = [len(text).to_bytes(4, "little"), text]
    size = 4 + len(text)
    for values in arrays.values():
        data = np.ascontiguousarray(values).tobytes()
        parts += [b"\0" * (-size % _ALIGN), data]
        size += -size % _ALIGN + len(data)
    return b"".join(parts)


def _meta(found: Collected, about: About, columns: dict[str, Array], listed: int) -> dict[str, Any]:
    """What the page says at its top, counted over all paths, listed or not."""
    none = np.zeros(0, bool)
    return {
        "name": about.name,
        "version": about.version,
        "paths": found.paths,
        "listed": listed,
        "rows": found.rows,
        "dropped": int(columns.get("dropped", none).sum()),
        "incomplete": int((~columns.get("complete", none)).sum()),
        "lost": about.lost,
        "cut_short": about.cut_short,
        "more_changes": about.more_changes,
    }


def _change(one: Change, start_ns: int) -> dict[str, Any]:
    """A change of the configuration; `at` is when it was noticed, `late` by how much that may be too late."""
    return {
        "at": one.ts_ns - start_ns,
        "late": max(one.ts_ns - one.unsure_ns, 0),
        "netns": one.netns or f"netns:{one.netns_inode}",
        "kind": one.kind,
        "text": one.text,
        "by": one.by,
    }


def _path_arrays(columns: dict[str, Array], listed: Array) -> dict[str, Array]:
    keep = np.zeros(len(columns["packet"]), bool)
    keep[listed] = True
    own = {name: values[keep] for name, values in columns.items() if name not in {"pids", "refs"}}
    flags = own["complete"] * _COMPLETE + own["dropped"] * _DROPPED + own["exact"] * _EXACT
    return {
        "packet": own["packet"].astype("<f8"),
        "start": (own["start_ns"] - columns["start_ns"].min()).astype("<f8"),
        "duration": own["duration_ns"].astype("<f8"),
        "mark": own["mark"].astype("<f8"),
        "lost": own["lost"].astype("<f8"),
        "way": own["way"].astype("<i4"),
        "flow": own["flow"].astype("<i4"),
        "tree": own["tree"].astype("<i4"),
        "info": own["info"].astype("<i4"),
        "flags": flags.astype("u1"),
        "pid_end": np.cumsum(own["pid_count"]).astype("<i4"),
        "ref_end": np.cumsum(own["ref_count"]).astype("<i4"),
        "pids": columns["pids"][np.repeat(keep, columns["pid_count"])].astype("<f8"),
        "refs": columns["refs"][np.repeat(keep, columns["ref_count"])].astype("<f8"),
    }


def _shared_arrays(found: Collected, arrays: dict[str, Array]) -> dict[str, Array]:
    """Flows that are used, ways, and their steps column by column."""
    steps = np.array(found.steps, "<i4").reshape(-1, len(STEP)).T
    flows = np.array(found.flows, "<i4").reshape(-1, 5).T
    if arrays:
        used, arrays["flow"] = np.unique(arrays["flow"], return_inverse=True)
        arrays["flow"] = arrays["flow"].astype("<i4")
        flows = flows[:, used]
    shared = {f"step_{name}": values for name, values in zip(STEP, steps, strict=True)}
    shared |= {
        f"flow_{name}": values
        for name, values in zip(("src", "dst", "proto", "sport", "dport"), flows, strict=True)
    }
    shared["way_end"] = np.cumsum([len(way) for way in found.ways]).astype("<i4")
    shared["way_steps"] = np.concatenate(found.ways).astype("<i4") if found.ways else np.zeros(0, "<i4")
    return shared
