"""What builds and deploys."""
