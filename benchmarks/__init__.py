"""Speed against named baselines: ``python -m benchmarks NAME [--json]``."""
