"""The REST API: HTTP in front of the store. A folder per resource; imports no torch."""
