"""Protocols, bytes in, bytes out: no socket, no clock, no event loop."""
