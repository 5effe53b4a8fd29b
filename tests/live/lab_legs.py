"""Ways that programs cut: a traced step against the legs that a lab expects, each packet of each leg."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.live.lab_runs import fits, problems


def leg_of(legs, path):
    """Number of the leg whose flow and path a packet has, None where none has it; fails where the path differs."""
    candidates = [number for number, leg in enumerate(legs) if fits(leg.flow, path)]
    told = []
    for number in candidates:
        found = problems(path, legs[number].path)
        if not found:
            return number
        told.append(f"  not {number}: {'; '.join(found)}")
    if told:
        pytest.fail("\n".join([path.text(), *told]))
    return None


def check_legs(step, paths):
    """Every packet takes one leg of its flow; each leg has the step's packets, or more where it is not exact."""
    legs = step.expect.legs
    numbers = [leg_of(legs, path) for path in paths]
    counts = Counter(number for number in numbers if number is not None)
    for number, leg in enumerate(legs):
        if step.packets is None:
            assert counts[number] >= 2, f"leg {number}, {leg.flow}: {counts[number]} packets"
        elif leg.exact:
            assert counts[number] == step.packets, f"leg {number}, {leg.flow}"
        else:
            assert counts[number] >= step.packets, f"leg {number}, {leg.flow}"
    return [
        [path for path, at in zip(paths, numbers, strict=True) if at == number] for number in range(len(legs))
    ]
