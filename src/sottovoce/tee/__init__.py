"""What runs inside a confidential VM."""
