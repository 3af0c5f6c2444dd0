"""Put reported beside reproduced: verdicts on cells, verdicts on claims, and how they are printed."""
