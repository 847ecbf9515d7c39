"""Models and the chat."""
