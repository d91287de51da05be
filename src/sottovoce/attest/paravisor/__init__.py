"""Evidence of a confidential VM that runs under a cloud's paravisor (Azure): layout, signatures and policy, each apart."""
