"""Feature maps to one map."""
