"""What happens beside the steps of training: one module a concern."""
