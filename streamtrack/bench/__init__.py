"""How fast the loop is on this machine: engine alone, step alone, and a whole run, paced and back to back.

Every frame's stamps are kept, in arrays made beforehand; percentiles are of all frames after the warm-up and each is
the latency of a frame that was measured. A percentile that fewer frames cannot show is left out.
"""
