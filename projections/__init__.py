"""The read side of Quire: what is computed from the log."""
