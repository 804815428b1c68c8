"""Which class a particle is of, told from a patch of the frame around it: training, file and measure."""
