"""Public fakes of the seams and the contract tests that real and fake both pass."""
