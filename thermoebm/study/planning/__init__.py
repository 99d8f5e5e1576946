"""What a study runs."""
