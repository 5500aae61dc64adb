"""The judges: what a reading means, as values in and values out."""
