"""Where jobs run, where files live, what they cost, and who may do what."""
