"""How work on many scans is spread: over a cluster's machines, or by hand in shares."""
