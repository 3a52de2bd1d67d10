"""The benchmark: one protocol for every surrogate and every table; see docs/benchmark.md."""
