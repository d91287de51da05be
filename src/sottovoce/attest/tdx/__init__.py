"""Intel TDX: layout, signatures and policy, each apart."""
