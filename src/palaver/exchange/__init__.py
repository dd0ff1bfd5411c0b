"""Nodes that learn from each other's outputs (thesis ch. 2)."""
