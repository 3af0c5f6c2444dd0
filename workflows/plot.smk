# Two-stage training for learning from label proportions (Liu et al. 2021).
MADE["plot"] = {
    "figures": {"fig2": "Figure 2", "fig3": "Figure 3", "fig4": "Figure 4"},
    "tables": ["table1", "table2", "gains", "table3", "pseudo"],
    "curves": ["fig2", "fig3", "fig4"],
}
