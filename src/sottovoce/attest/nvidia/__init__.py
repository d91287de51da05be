"""NVIDIA GPUs and switches: report and reference manifests, what signs them, and what a policy demands."""
