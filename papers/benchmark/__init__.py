"""Put every method of the five papers, and three of the field, behind one registry and one estimator."""
