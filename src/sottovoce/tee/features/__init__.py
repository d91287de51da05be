"""What the service does with messages and drafts, as plain functions: text in, text out. No network, no model."""
