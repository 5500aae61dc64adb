"""What runs cost and how they go."""
