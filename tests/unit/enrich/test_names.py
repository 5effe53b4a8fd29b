"""Names come from iproute2's files, in iproute2's order."""

from __future__ import annotations

from tracer.enrich.names import TABLES, named_namespaces, read_names


def test_the_administrators_files_win_over_the_vendors(tmp_path):
    """Decimal and hexadecimal numbers, comments, drop-ins; what cannot be read is skipped."""
    vendor, admin = tmp_path / "vendor", tmp_path / "admin"
    for folder in (vendor, admin):
        (folder / "rt_tables.d").mkdir(parents=True)
    (vendor / "rt_tables").write_text("# reserved\n255 local\n100\tvendor # why\n0x1f4 five\nbroken\n")
    (admin / "rt_tables").write_text("100 uplink\n")
    (admin / "rt_tables.d" / "lab.conf").write_text("700 lab\n")
    (admin / "rt_tables.d" / "README").write_text("701 ignored\n")
    found = read_names("rt_tables", TABLES, (str(vendor), str(admin)))
    assert found == {**TABLES, 100: "uplink", 500: "five", 700: "lab"}


def test_without_files_the_built_in_names_stay(tmp_path):
    """A minimal system has no /etc/iproute2 at all."""
    assert read_names("rt_tables", TABLES, (str(tmp_path),)) == TABLES


def test_a_file_that_is_no_namespace_is_not_taken_for_one(tmp_path):
    """`ip netns add` makes the file first and mounts the namespace on it then."""
    (tmp_path / "half").touch()
    assert named_namespaces(tmp_path) == {}
    assert named_namespaces(tmp_path / "absent") == {}
