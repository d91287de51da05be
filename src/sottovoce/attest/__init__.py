"""From evidence to verdict: layout, signatures and policy, each apart."""
