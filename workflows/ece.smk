# Sparse-shot learning with exclusive cross-entropy (Panteli et al. 2021).
MADE["ece"] = {
    "figures": {"fig3": "Figure 3", "fig4": "Figure 4", "fig5": "Figure 5"},
    "tables": ["table1", "table2", "table3", "segmentation", "detection", "matching", "splits", "equations"],
    "curves": ["fig3"],
}
