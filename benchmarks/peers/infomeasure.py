"""KL(P‖Q) = H_Q(P) − H(P) by infomeasure (Kozachenko–Leonenko entropies, its defaults: k = 4), in nats.

Reads x ~ P and y ~ Q; VARIANT is kl. Called as `peers.measure` calls it.
"""

import json
import sys
import time

import infomeasure
import numpy as np

samples = np.load(sys.argv[1])
begun = time.perf_counter()
value = infomeasure.kld(samples["x"], samples["y"], approach="kl", base="e")
print(json.dumps({"value": float(value), "seconds": time.perf_counter() - begun}))
