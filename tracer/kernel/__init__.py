"""The probes: compiled, loaded, attached, and their ring read."""
