"""Networks, their training, export and weights, and the back ends that run them."""
