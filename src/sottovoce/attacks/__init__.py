"""The attack lab: one attack a file, named after what it tries."""
