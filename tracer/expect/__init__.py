"""Expectations: what paths must look like, judged against paths that were seen."""
