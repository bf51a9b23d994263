"""KL(P‖Q) by universal-divergence (k-nearest-neighbour distances, Wang, Kulkarni & Verdú 2009) with k = 5.

Reads x ~ P and y ~ Q; VARIANT is kl. Called as `peers.measure` calls it.
"""

import json
import sys
import time

import numpy as np
from universal_divergence import estimate

NEIGHBOURS = 5

samples = np.load(sys.argv[1])
begun = time.perf_counter()
value = estimate(samples["x"], samples["y"], k=NEIGHBOURS)
print(json.dumps({"value": float(value), "seconds": time.perf_counter() - begun}))
