"""Transparency log, client side (C2SP)."""
