"""What the tiers paper and cpu are shrunk by, a module for each paper: every kind of run they plan trains in a test.

A module ``<paper>.py`` has

    CHANGES   {key: value}: every run that holds the key gets the value
    changes   optional, ``changes(spec) -> {key: value}``: the same for what depends on the run
    ASIDE     optional, keys that are met by code of their own, whatever the other keys: they tell no kinds apart
    data      ``data(root) -> None``: makes tiny datasets under their real names in the data root `root`; `toys` helps
    NOT_RUN   optional, regular expressions: ids that may end in a reason for NOT RUN, for want of a package or of a
              set that no toy stands for; of sets that are private (data/sources.csv) this is known

Kinds are told apart by what a spec holds, its words and switches, and which of its numbers are zero
(tests/contract/test_paper_tier.py); seeds and sizes make no kind.
"""


def shrunk(module, spec, **wider):
    """The spec at toy length, by a paper's module; `wider` are more of its CHANGES, or others."""
    changes = {**module.CHANGES, **wider}
    spec = spec.but(**{key: value for key, value in changes.items() if key in spec})
    return spec.but(**module.changes(spec)) if hasattr(module, "changes") else spec
