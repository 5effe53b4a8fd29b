"""Topologies of network namespaces with real services and real traffic, to try fibtrace and to test it."""
