"""Jobs on a Slurm cluster: options, script, array windows, the client of its commands, and what they answer."""
