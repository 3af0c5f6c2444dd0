"""Read images whose objects are localised: official releases, one prepared layout, splits and annotation subsets."""
