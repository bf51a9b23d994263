"""I(X; Z) by benchmark-mi, the estimators of Czyż et al. 2023 (Beyond Normal) with the package's defaults.

Reads x and z; VARIANT is one of `VARIANTS`. Called as `peers.measure` calls it.
"""

import json
import sys
import time

import numpy as np
from bmi import estimators

VARIANTS = {
    "cca": lambda seed: estimators.CCAMutualInformationEstimator(),
    "ksg": lambda seed: estimators.KSGEnsembleFirstEstimator(neighborhoods=(10,)),
    "infonce": lambda seed: estimators.InfoNCEEstimator(verbose=False, seed=seed),
    "mine": lambda seed: estimators.MINEEstimator(verbose=False, seed=seed),
    "nwj": lambda seed: estimators.NWJEstimator(verbose=False, seed=seed),
    "donsker-varadhan": lambda seed: estimators.DonskerVaradhanEstimator(verbose=False, seed=seed),
}

samples = np.load(sys.argv[1])
estimator = VARIANTS[sys.argv[2]](int(sys.argv[3]))
begun = time.perf_counter()
value = estimator.estimate(samples["x"], samples["z"])
print(json.dumps({"value": float(value), "seconds": time.perf_counter() - begun}))
