"""What every floor stands on: types, files, trees of tensors, the machine; knows nothing of pruning."""
