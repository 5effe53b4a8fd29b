"""Names, rules, routes, processes: what the numbers of the records mean."""
