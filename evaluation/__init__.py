"""How good the answers are, and what an attacker can do to them: `make eval`."""
