"""Simulated hardware: a software security processor, its vendor, its machines."""
