"""Networks: CLIP towers, the temporal head with its experts, routing as a value, checkpoints."""
