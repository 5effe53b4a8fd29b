"""`fibtrace top`: counters from the kernel, and what they say of rules, routes and drops."""
