"""What training does to a network, measured: pure functions of tensors; nothing here is needed to train."""
