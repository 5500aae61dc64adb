"""Is a node fit to join: checks with threshold and evidence, nodes compared before training, bad ones kept out."""
