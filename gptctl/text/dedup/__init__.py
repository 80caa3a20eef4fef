"""Finding documents that say the same: keys, edges between equal keys, groups of edges, and who stays of a group."""
