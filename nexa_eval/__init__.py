"""Results of runs: the leaderboard and the curves."""
