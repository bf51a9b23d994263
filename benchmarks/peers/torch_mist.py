"""I(X; Z) by torch-mist: a discriminative bound trained on 80 %, stopped on 10 %, read on the last 10 %.

Reads x and z; VARIANT is one of js, smile, infonce, nwj, mine; but for the split the package's defaults hold.
Called as `peers.measure` calls it.
"""

import contextlib
import itertools
import json
import sys
import time

import numpy as np
import torch
from torch_mist import estimate_mi

samples = np.load(sys.argv[1])
variant, seed = sys.argv[2], int(sys.argv[3])
torch.manual_seed(seed)
order = np.random.default_rng(seed).permutation(len(samples["x"]))
pairs = {name: torch.as_tensor(samples[name][order], dtype=torch.float32) for name in ("x", "z")}
cuts = [0, int(0.8 * len(order)), int(0.9 * len(order)), len(order)]
train, valid, test = ({"x": pairs["x"][low:high], "y": pairs["z"][low:high]} for low, high in itertools.pairwise(cuts))
begun = time.perf_counter()
with contextlib.redirect_stdout(sys.stderr):
    found = estimate_mi(data=train, valid_data=valid, test_data=test, estimator=variant, verbose=False, logger=False)
value = found[0] if isinstance(found, tuple) else found
print(json.dumps({"value": float(value), "seconds": time.perf_counter() - begun}))
