"""Grouping, ordering and filling of columns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.correlate.columns import (
    address_words,
    changed,
    codes_of,
    hash_rows,
    last_where,
    next_where,
    order_by,
    shifted,
)

GROUPED = st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=30).map(
    lambda rows: sorted(rows, key=lambda r: r[0])
)


@given(GROUPED)
def test_last_and_next_stay_in_their_group(rows):
    """As a plain loop finds them."""
    group, mark = np.array([g for g, _ in rows], int), np.array([m for _, m in rows], bool)
    last = [
        max((j for j in range(i + 1) if mark[j] and group[j] == group[i]), default=-1)
        for i in range(len(rows))
    ]
    following = [
        min((j for j in range(i, len(rows)) if mark[j] and group[j] == group[i]), default=-1)
        for i in range(len(rows))
    ]
    assert last_where(mark, group).tolist() == last
    assert next_where(mark, group).tolist() == following


@given(st.lists(st.one_of(st.integers(0, 5), st.integers(0, 2**40)), max_size=40))
def test_order_is_stable_for_numbers_of_any_size(numbers):
    """Also above sixteen and thirty-two bits."""
    assert order_by(np.array(numbers, np.int64)).tolist() == sorted(
        range(len(numbers)), key=lambda i: numbers[i]
    )


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3), max_size=30))
def test_codes_number_keys_as_they_appear(keys):
    """The distinct keys, indexed by the codes, are the keys."""
    codes, distinct = codes_of(np.array(keys, np.uint64))
    assert distinct[codes].tolist() == keys if keys else len(codes) == 0
    assert list(dict.fromkeys(codes.tolist())) == list(range(len(distinct)))


def test_changed_and_shifted_look_one_row_back():
    """The first row has changed, and gets its own value."""
    a, b = np.array([1, 1, 2, 2]), np.array([5, 5, 5, 6])
    assert changed(a, b).tolist() == [True, False, True, True]
    assert shifted(a).tolist() == [1, 1, 1, 2]
    assert changed(a[:0]).tolist() == shifted(a[:0]).tolist() == []


@pytest.mark.parametrize("byte", [0, 3, 7, 8, 15])
def test_addresses_differ_in_any_byte(byte):
    """Both halves count."""
    pair = np.zeros((2, 16), np.uint8)
    pair[1, byte] = 1
    first, second = address_words(pair)
    assert (first[0] != first[1]) == (byte < 8)
    assert (second[0] != second[1]) == (byte >= 8)


def test_hashes_tell_columns_apart():
    """Swapped values and zeros give other hashes; equal rows give equal ones."""
    rows = [(1, 2), (2, 1), (0, 3), (3, 0), (0, 0), (1, 2)]
    hashes = hash_rows(*(np.array(column) for column in zip(*rows, strict=True))).tolist()
    assert hashes[0] == hashes[5]
    assert len(set(hashes)) == 5
