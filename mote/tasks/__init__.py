"""Tasks: modules that turn a batch into a loss and its named, already weighted terms."""
