# Fast learning from label proportions with small bags (Barucic & Kybic 2022).
MADE["mle_llp"] = {
    "figures": {"fig1": "Figure 1", "fig3": "Figure 3", "size": "Beyond: bag size", "e_step": "Beyond: E-step"},
    "tables": ["fig3", "table1", "convergence", "size", "blood", "e_step", "controls", "equations"],
    "curves": ["fig1"],
}
