"""What everything else speaks of: columns, paths, the network."""
