"""Maps read and written whole, as numpy arrays: thousands of counters in a few system calls, no Python per entry."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from tracer.errors import TracerError
from tracer.kernel.attempt import libbpf

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BATCH = 4096
_PER_CPU = frozenset({5, 6})  # BPF_MAP_TYPE_PERCPU_HASH, BPF_MAP_TYPE_PERCPU_ARRAY
_ARRAYS = frozenset({2, 6})  # BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_PERCPU_ARRAY


class _Info(ctypes.Structure):
    """The first members of struct bpf_map_info (linux/bpf.h)."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("max_entries", ctypes.c_uint32),
    )


class Map:
    """One map by its descriptor. Values of a per-CPU map come as one row per CPU that there may be."""

    def __init__(self, descriptor: int) -> None:
        self._fd, self._lib = descriptor, libbpf()
        info, length = _Info(), ctypes.c_uint32(ctypes.sizeof(_Info))
        if self._lib.bpf_obj_get_info_by_fd(descriptor, ctypes.byref(info), ctypes.byref(length)) < 0:
            raise _failure("describe a map")
        per_cpu = info.type in _PER_CPU
        self._key_bytes, self._entries = info.key_size, info.max_entries
        self._is_array = info.type in _ARRAYS
        self._cpus = int(self._lib.libbpf_num_possible_cpus()) if per_cpu else 1
        self._value_bytes = (info.value_size + 7) & ~7 if per_cpu else info.value_size

    def read(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """All entries: keys (entry, bytes) and values (entry, CPU, bytes)."""
        if self._is_array:
            return self._read_array()
        keys, values = [], []
        position = ctypes.create_string_buffer(max(self._key_bytes, 8))
        started, room = False, _BATCH
        while True:
            some_keys = np.empty((room, self._key_bytes), np.uint8)
            some_values = np.empty((room, self._cpus, self._value_bytes), np.uint8)
            count = ctypes.c_uint32(room)
            before = ctypes.byref(position) if started else None
            code = self._lib.bpf_map_lookup_batch(
                self._fd,
                before,
                ctypes.byref(position),
                _at(some_keys),
                _at(some_values),
                ctypes.byref(count),
                None,
            )
            number = ctypes.get_errno() if code < 0 else 0
            if number == errno.ENOSPC:
                room *= 2  # one bucket holds more
                continue
            if number not in {0, errno.ENOENT}:
                raise _failure("read a map", number)
            keys.append(some_keys[: count.value])
            values.append(some_values[: count.value])
            started = True
            if number == errno.ENOENT:
                return np.concatenate(keys), np.concatenate(values)

    def _read_array(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        values = np.empty((self._entries, self._cpus, self._value_bytes), np.uint8)
        for number in range(self._entries):
            key = ctypes.c_uint32(number)
            if self._lib.bpf_map_lookup_elem(self._fd, ctypes.byref(key), _at(values[number])) < 0:
                raise _failure("read a map")
        return np.arange(self._entries, dtype=np.uint32).view(np.uint8).reshape(-1, 4), values

    def write(self, number: int, value: bytes) -> None:
        """Set one element of an array."""
        key = ctypes.c_uint32(number)
        if len(value) != self._value_bytes:
            raise TracerError(f"{len(value)} bytes for a map whose values have {self._value_bytes}")
        if self._lib.bpf_map_update_elem(self._fd, ctypes.byref(key), value, ctypes.c_uint64(0)) < 0:
            raise _failure("write a map")

    def write_range(self, start: int, values: NDArray[Any]) -> None:
        """Set elements of an array, from `start` on."""
        keys = np.arange(start, start + len(values), dtype=np.uint32)
        values = np.ascontiguousarray(values)
        count = ctypes.c_uint32(len(values))
        update = self._lib.bpf_map_update_batch
        if len(values) and update(self._fd, _at(keys), _at(values), ctypes.byref(count), None) < 0:
            raise _failure("write a map")

    def delete(self, keys: NDArray[np.uint8]) -> None:
        """Take entries of a hash away; those that are not there are none."""
        for key in np.ascontiguousarray(keys):
            if self._lib.bpf_map_delete_elem(self._fd, _at(key)) < 0 and ctypes.get_errno() != errno.ENOENT:
                raise _failure("delete from a map")


def _at(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _failure(what: str, number: int | None = None) -> TracerError:
    why = os.strerror(ctypes.get_errno() if number is None else number).lower()
    return TracerError(f"cannot {what} of the probes: {why}")
