"""What is deployed: one service, one file."""
