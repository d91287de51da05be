"""AMD SEV-SNP: layout, signatures and policy, each apart."""
