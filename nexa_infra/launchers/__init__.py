"""How processes start on a node."""
