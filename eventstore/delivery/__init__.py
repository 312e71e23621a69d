"""Delivery: what leaves the log for others, and the channels it leaves by."""
