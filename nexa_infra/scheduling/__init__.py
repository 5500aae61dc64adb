"""Where jobs run: sweeps, backends and the one job entry."""
