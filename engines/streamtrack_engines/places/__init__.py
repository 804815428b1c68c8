"""Where a particle is, told from a crop of the frame round it: training, file, and the engines' second look."""
