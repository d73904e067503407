"""The runtime interface client for Python 3.8 and later."""
