"""Workers: registration and who is there."""
