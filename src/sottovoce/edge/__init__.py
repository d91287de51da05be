"""The operator's services: they never see content."""
