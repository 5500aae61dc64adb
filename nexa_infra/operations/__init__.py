"""What a person asks for, start to finish."""
