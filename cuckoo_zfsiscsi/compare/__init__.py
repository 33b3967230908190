"""The paper's table 2 of one's own samples: which environments does a sample run in.

One or more CAPE servers run the same samples with the same options; what they report decides.
"""
