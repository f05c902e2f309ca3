"""The parts of ``grasp-nodes reconstruct``: what it works with, what it writes, and its report."""
