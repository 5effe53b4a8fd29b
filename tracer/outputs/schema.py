"""The catalogue as an Arrow schema, and rows brought into it.

Strings are dictionary<int32, string>: a capture repeats few names very often, so a batch is small in memory
and Parquet takes the codes as they are.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from tracer.model.columns import BOOL, COLUMNS, INT32, INT64, INTERNAL, SCHEMA, STRING, Column
from tracer.model.visible import visible

METADATA_KEY = b"fibtrace.schema"
_ARROW = {
    INT32: pa.int32(),
    INT64: pa.int64(),
    STRING: pa.dictionary(pa.int32(), pa.string()),
    BOOL: pa.bool_(),
}


def arrow_field(column: Column) -> pa.Field:
    """One column of the catalogue as an Arrow field."""
    return pa.field(column.name, _ARROW[column.type], nullable=column.nullable)


CONTRACT = pa.schema(
    [arrow_field(column) for column in COLUMNS], metadata={METADATA_KEY: str(SCHEMA).encode()}
)
"""Schema of every file we write."""


def conform(rows: pa.Table) -> pa.Table:
    """The contract's columns of some rows, in its order and types, one chunk each.

    Raises ValueError when a column is missing (a mistake in the caller, not in the user's data).
    """
    missing = [name for name in CONTRACT.names if name not in rows.column_names]
    if missing:
        raise ValueError(f"rows lack the columns {', '.join(missing)}")
    columns = [as_type(rows.column(field.name), field.type) for field in CONTRACT]
    return pa.Table.from_arrays(columns, schema=CONTRACT)


def shown(rows: pa.Table) -> pa.Table:
    """The same rows with names that are safe to print; their `why`, which is JSON, stays."""
    for index, field in enumerate(rows.schema):
        if not pa.types.is_dictionary(field.type) or field.name == "why":
            continue
        column = as_type(rows.column(index), field.type)
        names = column.dictionary
        safe = [name if name is None else visible(name) for name in names.to_pylist()]
        if safe != names.to_pylist():
            codes = pc.cast(column.indices, pa.int32())
            made = pa.array(safe, type=pa.string()).take(codes).dictionary_encode()
            rows = rows.set_column(index, field.name, pa.chunked_array([made]))
    return rows


def with_internal(contract: pa.Table, rows: pa.Table) -> pa.Table:
    """Add to conformed rows those internal columns that `rows` carries."""
    for column in INTERNAL:
        if column.name in rows.column_names:
            field = arrow_field(column)
            contract = contract.append_column(field, as_type(rows.column(column.name), field.type))
    return contract


def as_type(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.Array:
    """A column as one array of the wanted type; dictionaries of several chunks are unified."""
    if pa.types.is_dictionary(column.type) and column.num_chunks > 1:
        column = column.unify_dictionaries()
    if column.type != wanted:
        column = _cast(column, wanted)
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], type=wanted)


def _cast(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    if not pa.types.is_dictionary(wanted):
        return column.cast(wanted)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(wanted.value_type).dictionary_encode().unify_dictionaries().cast(wanted)
