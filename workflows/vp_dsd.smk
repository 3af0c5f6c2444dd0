# Vertex proportion loss and the Deep Sparse Detector (Pacheco et al. 2024).
MADE["vp_dsd"] = {
    "figures": {
        "fig2": "Figure 2",
        "fig3": "Figure 3",
        "fig4": "Figure 4",
        "diversity": "Beyond: when KL collapses",
    },
    "tables": ["table1", "table2", "table3", "entropy", "detection", "diversity", "equations"],
    "curves": ["fig2", "fig3", "fig4"],
}
