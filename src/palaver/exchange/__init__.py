"""Nodes that learn from each other's outputs, without exchanging gradients (thesis ch. 2)."""
