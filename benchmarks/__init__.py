"""Benchmarks: each module prints one JSON object; ``python -m benchmarks`` runs them all (``make bench``)."""
