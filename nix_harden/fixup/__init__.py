"""What the hook runs: from the outputs of a derivation to bound files, and the way back."""
