"""What they say."""
