"""Learn fast from label proportions with small bags: exact EM over the Poisson-binomial (Barucic & Kybic 2022)."""
