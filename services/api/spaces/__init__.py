"""Search spaces and fixed parts, from the torch-free descriptions."""
