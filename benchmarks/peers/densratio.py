"""KL(P‖Q) = E_P[log r] by densratio (uLSIF, its defaults), r floored at the smallest positive float where it says 0.

Reads x ~ P and y ~ Q; VARIANT is kl. Called as `peers.measure` calls it.
"""

import json
import sys
import time

import numpy as np
from densratio import densratio

samples = np.load(sys.argv[1])
np.random.seed(int(sys.argv[3]))  # the package draws its kernel centres from the global state
begun = time.perf_counter()
fitted = densratio(samples["x"], samples["y"], verbose=False)
ratio = np.asarray(fitted.compute_density_ratio(samples["x"]), np.float64)
value = np.log(np.maximum(ratio, np.finfo(np.float64).tiny)).mean()
print(json.dumps({"value": float(value), "seconds": time.perf_counter() - begun}))
