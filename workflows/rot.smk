# Deep multi-class learning from label proportions (Dulac-Arnold et al. 2019).
MADE["rot"] = {
    "figures": {"fig1": "Figure 1", "fig2": "Figure 2"},
    "tables": ["fig2", "alpha", "controls", "equations"],
    "curves": ["fig1"],
}
