"""Benchmarks: Quire beside PocketBase and a bare handler, by one raw-protocol client. `make bench` runs them."""
