"""Real clients drive the runtime under test."""
