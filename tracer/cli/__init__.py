"""The command line: one small file per command, and the only importers of typer; light to import."""
