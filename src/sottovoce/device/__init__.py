"""What runs beside the user."""
