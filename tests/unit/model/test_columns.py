"""The catalogue is the contract."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tracer.model.columns import BOOL, COLUMNS, INTERNAL, NAMES

ROOT = Path(__file__).parents[3]
CONTRACT = (
    "packet,step,ts_ns,hop,netns,netns_inode,role,event,purpose,decision,rule,rule_text,table,table_id,"
    "walked_table_id,result,prefix,gateway,dev,route_type,scope,error,family,src,dst,proto,sport,dport,mark,tos,uid,"
    "iif,oif,in_dev,out_dev,verdict,reason,pid,comm,caller,evidence,lost"
)


def test_columns_are_those_of_the_contract_in_its_order():
    """Names and order are promised to every reader of a CSV."""
    assert ",".join(NAMES) == CONTRACT


def test_every_column_is_described():
    """A column without a meaning or with an impossible type is of no use."""
    for column in (*COLUMNS, *INTERNAL):
        assert column.doc
        assert column.type in {"int32", "int64", "string", BOOL}
    assert not {column.name for column in INTERNAL} & set(NAMES)


def test_docs_page_is_generated_from_the_catalogue():
    """docs/columns.md is what scripts/columns-doc writes."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "columns-doc"), "--check"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
