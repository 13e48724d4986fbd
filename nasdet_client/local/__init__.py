"""What works without a server: the embedded platform, and commands on local files.

nasdet_core is imported inside the functions that need it, so that the client runs where only httpx is installed;
the services are started with `python -m` and never imported.
"""
