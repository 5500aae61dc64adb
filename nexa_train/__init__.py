"""Training on the Hugging Face stack behind one config schema."""
