"""The stacks that can train: hf and axolotl."""
