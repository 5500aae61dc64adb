"""Runs that are trials of an Optuna study: each gets its point when it starts, and may be ended early."""
