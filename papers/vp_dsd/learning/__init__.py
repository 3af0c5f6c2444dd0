"""Learning from proportions: what is learned from, the classifier, the rivals of the VP loss, its equations."""
