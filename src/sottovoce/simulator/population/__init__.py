"""A simulated population of devices, and an observer who holds the operator's logs: what can be linked, told apart, steered."""
