"""Namespaces and real servers, for the demo, the tests and the benchmarks. Not used by the service."""
