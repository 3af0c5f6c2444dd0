"""Learn from proportions: the classifier, the rivals of the VP loss, donors of real cells."""
