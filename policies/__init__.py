"""What is allowed: policies for the engine (``pulumi preview --policy-pack policies``) and for plans, from the same rules."""
